package harness

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// DriverEnv names the cgroup driver of instances whose Options do not.
const DriverEnv = "VITRINE_TEST_CGROUP_DRIVER"

// HandlerEnv names the runtime handler of pods in instances whose Options do not:
// an OCI runtime in PATH, for example crun, which becomes the default handler of
// that name. The whole suite is run once per handler with it.
const HandlerEnv = "VITRINE_TEST_HANDLER"

// NativeHandler is the built-in handler, which needs no configuration.
const NativeHandler = "native"

// Options say how an instance differs from the ordinary one. The zero value works.
type Options struct {
	// CNI is the conflist that the instance finds; empty means Bridge(), and "none"
	// means an empty directory, so that the daemon falls back to what it embeds.
	CNI string
	// CNIBin are directories searched for plugins before the bundled ones.
	CNIBin []string
	// RegistriesConf and Policy are the contents of registries.conf and policy.json;
	// empty means no mirrors, and a policy that accepts everything.
	RegistriesConf, Policy string
	// Config is the content of the daemon's configuration file, TOML; empty means an
	// empty one, so that the host's own is never read.
	Config string
	// CgroupDriver is passed on; empty means that of DriverEnv, or the daemon's choice.
	CgroupDriver string
	// Handler is the default runtime handler, NativeHandler or an OCI runtime in PATH;
	// empty means that of HandlerEnv, or the built-in one.
	Handler string
	// NRI serves plugins at NRISocket.
	NRI bool
	// MetricsListen is host:port of /metrics; empty means metrics.sock in the directory.
	MetricsListen string
	// LogLevel is passed on; empty means debug.
	LogLevel string
	// Args and Env are added to the daemon's command line and environment.
	Args, Env []string
	// Under is a command that executes the daemon, whose command line follows it; empty: none.
	Under []string
}

// Instance is one daemon's world: its directories, its mark, its network. Its name
// is unique on the host and is part of every path, cgroup and network name of it.
//
//	DIR/                 os temp directory, short because of sun_path
//	├── data/            --root
//	├── state/           --state, with vitrine.sock
//	├── etc/             vitrine.toml, vitrine.toml.d/, registries.conf, policy.json, net.d/
//	├── ipam/            host-local's leases
//	├── logs/            CRI log directories of pods
//	└── daemon.log       output of every life of the daemon
type Instance struct {
	Name    string // for example vt3f9a1c
	Dir     string
	Options Options
	// Subnet is the /24 of the instance's CNI network, for example 10.231.7.0/24.
	Subnet string
}

// NewInstance makes the directories and files. Nothing runs yet.
func NewInstance(o Options) (*Instance, error) {
	var raw [3]byte
	rand.Read(raw[:])
	name := "vt" + hex.EncodeToString(raw[:])
	o.CgroupDriver = cmp.Or(o.CgroupDriver, os.Getenv(DriverEnv))
	o.Handler = cmp.Or(o.Handler, os.Getenv(HandlerEnv), NativeHandler)
	in := &Instance{Name: name, Dir: filepath.Join(os.TempDir(), name), Options: o}
	for _, sub := range []string{"data", "state", "etc/net.d", "etc/vitrine.toml.d", "ipam", "logs"} {
		if err := os.MkdirAll(filepath.Join(in.Dir, sub), 0o755); err != nil {
			return nil, fmt.Errorf("make instance: %w", err)
		}
	}
	var err error
	if in.Subnet, err = freeSubnet(raw); err != nil {
		return nil, errors.Join(err, os.RemoveAll(in.Dir))
	}
	policy := o.Policy
	if policy == "" {
		policy = `{"default":[{"type":"insecureAcceptAnything"}]}`
	}
	files := map[string]string{"etc/registries.conf": o.RegistriesConf, "etc/policy.json": policy, "etc/vitrine.toml": o.Config}
	switch o.CNI {
	case "none": // the embedded network, on a bridge and a subnet that the census knows
		files["etc/vitrine.toml"] += fmt.Sprintf("\n[network]\nbridge = %q\nsubnets = [%q]\n", in.BridgeName(), in.Subnet)
	case "":
		files["etc/net.d/10-bridge.conflist"] = in.Bridge()
	default:
		files["etc/net.d/10-bridge.conflist"] = o.CNI
	}
	if o.Handler != NativeHandler { // a drop-in, so that a test's own tables are merged with it
		path, err := exec.LookPath(o.Handler)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("handler %s: %w", o.Handler, err), os.RemoveAll(in.Dir))
		}
		files["etc/vitrine.toml.d/50-handler.toml"] = fmt.Sprintf("[runtime]\ndefault_handler = %q\n[runtime.handlers.%s]\npath = %q\n", o.Handler, o.Handler, path)
	}
	for path, text := range files {
		if err := os.WriteFile(filepath.Join(in.Dir, path), []byte(text), 0o644); err != nil {
			return nil, errors.Join(fmt.Errorf("make instance: %w", err), os.RemoveAll(in.Dir))
		}
	}
	if err := in.save(); err != nil {
		return nil, errors.Join(fmt.Errorf("make instance: %w", err), os.RemoveAll(in.Dir))
	}
	return in, nil
}

// Data is --root, what outlives a boot.
func (in *Instance) Data() string { return filepath.Join(in.Dir, "data") }

// State is --state, what does not outlive a boot.
func (in *Instance) State() string { return filepath.Join(in.Dir, "state") }

// Socket is the CRI socket.
func (in *Instance) Socket() string { return filepath.Join(in.State(), "vitrine.sock") }

// API is the admin socket.
func (in *Instance) API() string { return filepath.Join(in.State(), "api.sock") }

// NRISocket is where plugins connect when Options.NRI is set.
func (in *Instance) NRISocket() string { return filepath.Join(in.State(), "nri.sock") }

// DaemonLog is the output of every life of the daemon.
func (in *Instance) DaemonLog() string { return filepath.Join(in.Dir, "daemon.log") }

// NetDir is the directory of CNI configurations.
func (in *Instance) NetDir() string { return filepath.Join(in.Dir, "etc/net.d") }

// BridgeName is the bridge of the instance's network.
func (in *Instance) BridgeName() string { return in.Name }

// MetricsListen is where /metrics is served, in the flag's syntax.
func (in *Instance) MetricsListen() string {
	if in.Options.MetricsListen != "" {
		return in.Options.MetricsListen
	}
	return "unix:" + filepath.Join(in.Dir, "metrics.sock")
}

// CgroupParent is the instance's cgroup, the parent of its pods' cgroups, in
// cgroupfs syntax; with the systemd driver it is a slice.
func (in *Instance) CgroupParent() string {
	if in.Options.CgroupDriver == "systemd" {
		return "/" + in.Name + ".slice"
	}
	return "/" + in.Name
}

// PodCgroup is the cgroup of one pod, as kubelet names it for the driver in force.
func (in *Instance) PodCgroup(uid string) string {
	if in.Options.CgroupDriver == "systemd" {
		return "/" + in.Name + ".slice/" + in.Name + "-pod" + strings.ReplaceAll(uid, "-", "_") + ".slice"
	}
	return "/" + in.Name + "/pod" + uid
}

// Bridge is the instance's conflist, on a bridge, a subnet and a lease directory of its own.
func (in *Instance) Bridge() string {
	return BridgeList(in.Name, in.BridgeName(), filepath.Join(in.Dir, "ipam"), in.Subnet)
}

// BridgeList is a conflist of the reference plugins bridge, host-local and portmap.
func BridgeList(name, bridge, leases, subnet string) string {
	return fmt.Sprintf(`{
  "cniVersion": "1.0.0", "name": %q,
  "plugins": [
    {"type": "bridge", "bridge": %q, "isGateway": true, "ipMasq": true, "hairpinMode": true,
     "ipam": {"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}},
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`, name, bridge, leases, subnet)
}

// save and OpenInstance let another process find the instance again.
func (in *Instance) save() error {
	raw, err := json.MarshalIndent(in, "", "  ")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(in.Dir, "instance.json"), raw, 0o644)
}

// OpenInstance returns the instance that lives in a directory.
func OpenInstance(dir string) (*Instance, error) {
	raw, err := os.ReadFile(filepath.Join(dir, "instance.json"))
	if err != nil {
		return nil, fmt.Errorf("open instance: %w", err)
	}
	in := &Instance{}
	if err := json.Unmarshal(raw, in); err != nil {
		return nil, fmt.Errorf("open instance %s: %w", dir, err)
	}
	return in, nil
}

// freeSubnet chooses a /24 of 10.64.0.0/10 that no interface of the host uses; the
// seed keeps instances that start at the same moment apart.
func freeSubnet(seed [3]byte) (string, error) {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", fmt.Errorf("choose a subnet: %w", err)
	}
	for i := range 256 {
		candidate := &net.IPNet{IP: net.IPv4(10, 64+seed[0]%64, seed[1]+byte(i), 0).To4(), Mask: net.CIDRMask(24, 32)}
		used := false
		for _, a := range addrs {
			if n, ok := a.(*net.IPNet); ok && (candidate.Contains(n.IP) || n.Contains(candidate.IP)) {
				used = true
			}
		}
		if !used {
			return candidate.String(), nil
		}
	}
	return "", errors.New("choose a subnet: 256 candidates are all in use")
}

// exists reports whether a path is there, whatever it is.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return !errors.Is(err, fs.ErrNotExist)
}
