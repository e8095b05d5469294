package lifecycle

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/lifecycle/host"
	"github.com/vitrine-runtime/vitrine/network"
	"github.com/vitrine-runtime/vitrine/pod"
)

// Files of a sandbox, beside its record. They are mounted into its containers.
//
//	sandboxes/ID/
//	├── record
//	├── hostname
//	├── hosts
//	├── resolv.conf
//	└── shm/             tmpfs, when the pod has its own IPC namespace
const (
	hostnameFile = "hostname"
	hostsFile    = "hosts"
	resolvFile   = "resolv.conf"
	shmDir       = "shm"
)

// writeSandboxFiles makes the files of the sandbox and its log directory.
func (m *Manager) writeSandboxFiles(sb pod.Sandbox) error {
	dir := m.store.SandboxDir(sb.ID)
	resolv, err := resolvConf(sb)
	if err != nil {
		return err
	}
	name := sandboxHostname(sb)
	for file, content := range map[string]string{
		resolvFile: resolv, hostnameFile: name + "\n",
		hostsFile: "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, file), []byte(content), 0o644); err != nil {
			return fmt.Errorf("write %s: %w", file, err)
		}
	}
	if logs := sb.Config.GetLogDirectory(); logs != "" {
		if !filepath.IsAbs(logs) || filepath.Clean(logs) != strings.TrimSuffix(logs, "/") {
			return fmt.Errorf("%w: log_directory %q is not a clean absolute path", pod.ErrInvalid, logs)
		}
		if err := os.MkdirAll(logs, 0o755); cannotBe(err) {
			return fmt.Errorf("%w: log_directory %.200q: %w", pod.ErrInvalid, logs, host.RootCause(err))
		} else if err != nil {
			return fmt.Errorf("make log directory: %w", err)
		}
	}
	if !ownIPC(sb) {
		return nil
	}
	shm := filepath.Join(dir, shmDir)
	if err := os.Mkdir(shm, 0o700); err != nil {
		return fmt.Errorf("make shm: %w", err)
	}
	wishes, err := m.wishes(sb, nil)
	if err != nil {
		return err
	}
	options := fmt.Sprintf("mode=1777,size=%d", cmp.Or(wishes.ShmSize, m.config.shmSize()))
	if sb.MountLabel != "" {
		options += `,context="` + sb.MountLabel + `"`
	}
	if err := unix.Mount("shm", shm, "tmpfs", unix.MS_NOEXEC|unix.MS_NOSUID|unix.MS_NODEV, options); err != nil {
		return fmt.Errorf("mount shm: %w", err)
	}
	return nil
}

// cannotBe says whether a path is refused for what it is: trying again will not help.
func cannotBe(err error) bool {
	return errors.Is(err, unix.ENAMETOOLONG) || errors.Is(err, unix.ENOTDIR) || errors.Is(err, unix.ELOOP) || errors.Is(err, unix.EINVAL)
}

// makeLogPlace makes the directories between the pod's log directory and the container's
// log: kubelet has made them, other clients rely on the runtime. Links do not lead out.
func makeLogPlace(directory, file string) error {
	if file == "" {
		return nil
	}
	below, err := filepath.Rel(directory, filepath.Dir(file))
	if err != nil || below == "." {
		return err
	}
	root, err := os.OpenRoot(directory)
	if err != nil {
		return fmt.Errorf("open log directory: %w", err)
	}
	defer root.Close()
	if err := root.MkdirAll(below, 0o755); err != nil {
		return fmt.Errorf("%w: log_path %.200q: %w", pod.ErrInvalid, file, host.RootCause(err))
	}
	return nil
}

// removeSandboxFiles undoes writeSandboxFiles but for the log directory, which is
// kubelet's. Absence is success.
func removeSandboxFiles(dir string) error {
	shm := filepath.Join(dir, shmDir)
	for { // a mount may have been made twice by a retry
		if err := unix.Unmount(shm, unix.MNT_DETACH|unix.UMOUNT_NOFOLLOW); errors.Is(err, unix.EINVAL) || errors.Is(err, unix.ENOENT) {
			break
		} else if err != nil {
			return fmt.Errorf("unmount shm: %w", err)
		}
	}
	if err := os.Remove(shm); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove shm: %w", err)
	}
	for _, file := range []string{resolvFile, hostnameFile, hostsFile} {
		if err := os.Remove(filepath.Join(dir, file)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove %s: %w", file, err)
		}
	}
	return nil
}

// sandboxHostname is the request's. Clients other than kubelet leave it out: then it
// is the host's on the host's network, else the beginning of the sandbox's ID.
func sandboxHostname(sb pod.Sandbox) string {
	if name := sb.Config.GetHostname(); name != "" {
		return name
	}
	if ownNetwork(sb) {
		return sb.ID.Short()
	}
	name, _ := os.Hostname()
	return name
}

// resolvConf is built of the request's DNS configuration, or is the host's when
// that is empty. A value with a control character could add a line and is refused.
func resolvConf(sb pod.Sandbox) (string, error) {
	dns := sb.Config.GetDnsConfig()
	if len(dns.GetServers())+len(dns.GetSearches())+len(dns.GetOptions()) == 0 {
		raw, err := os.ReadFile("/etc/resolv.conf")
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return "", fmt.Errorf("copy the host's resolv.conf: %w", err)
		}
		return string(raw), nil
	}
	var b strings.Builder
	line := func(word string, values ...string) error {
		for _, v := range values {
			if strings.ContainsFunc(v, func(r rune) bool { return r < ' ' || r == 0x7f }) {
				return fmt.Errorf("%w: dns_config value %q has a control character", pod.ErrInvalid, v)
			}
		}
		if len(values) > 0 {
			b.WriteString(word + " " + strings.Join(values, " ") + "\n")
		}
		return nil
	}
	if err := line("search", dns.GetSearches()...); err != nil {
		return "", err
	}
	for _, server := range dns.GetServers() {
		if err := line("nameserver", server); err != nil {
			return "", err
		}
	}
	if err := line("options", dns.GetOptions()...); err != nil {
		return "", err
	}
	return b.String(), nil
}

func namespaceRequest(sb pod.Sandbox) network.NamespaceRequest {
	return network.NamespaceRequest{
		ID: string(sb.ID), Net: ownNetwork(sb), IPC: ownIPC(sb), UTS: ownNetwork(sb),
		Hostname: sandboxHostname(sb), Sysctls: sb.Config.GetLinux().GetSysctls(), UserNS: userNamespace(sb),
	}
}

// userNamespace is the pod's own user namespace, nil on the host's. RunSandbox has
// checked that there is one mapping of each kind.
func userNamespace(sb pod.Sandbox) *network.UserNS {
	u := namespaceOptions(sb).GetUsernsOptions()
	if u == nil || u.GetMode() != runtime.NamespaceMode_POD {
		return nil
	}
	mapped := func(list []*runtime.IDMapping) []network.IDMap {
		var maps []network.IDMap
		for _, m := range list {
			maps = append(maps, network.IDMap{Container: m.GetContainerId(), Host: m.GetHostId(), Size: m.GetLength()})
		}
		return maps
	}
	return &network.UserNS{UIDs: mapped(u.GetUids()), GIDs: mapped(u.GetGids())}
}
