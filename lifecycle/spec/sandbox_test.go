package spec

import (
	"errors"
	"maps"
	"strings"
	"testing"

	v1 "github.com/opencontainers/image-spec/specs-go/v1"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestHostnamesThatTheKernelOrAFileWouldMisreadAreRefused(t *testing.T) {
	for _, good := range []string{"a", "web-0.shop_1", strings.Repeat("x", 64), "0"} {
		if err := ValidateHostname(good); err != nil {
			t.Error(err)
		}
	}
	for _, bad := range []string{"", strings.Repeat("x", 65), "-a", ".a", "a b", "a\n127.0.0.1 evil", "a\x00", "ü"} {
		if err := ValidateHostname(bad); !errors.Is(err, pod.ErrInvalid) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

func TestSandboxesThatCannotBe(t *testing.T) {
	mapping := func(container, host, length uint32) []*runtime.IDMapping {
		return []*runtime.IDMapping{{ContainerId: container, HostId: host, Length: length}}
	}
	type ctx = runtime.LinuxSandboxSecurityContext
	node := runtime.NamespaceMode_NODE
	userns := func(u *runtime.UserNamespace) *ctx {
		return &ctx{NamespaceOptions: &runtime.NamespaceOption{UsernsOptions: u}}
	}
	for name, c := range map[string]struct {
		hostname string
		security *ctx
		sysctls  map[string]string
		text     string // empty is good
	}{
		"plain":                         {"web", &ctx{}, nil, ""},
		"no hostname":                   {"", &ctx{}, nil, ""},
		"no hostname on host network":   {"", &ctx{NamespaceOptions: &runtime.NamespaceOption{Network: node}}, nil, ""},
		"group without user":            {"web", &ctx{RunAsGroup: &runtime.Int64Value{Value: 3}}, nil, "run_as_group: 3"},
		"target":                        {"web", &ctx{NamespaceOptions: &runtime.NamespaceOption{Pid: runtime.NamespaceMode_TARGET}}, nil, "pid"},
		"unknown mode":                  {"web", &ctx{NamespaceOptions: &runtime.NamespaceOption{Ipc: 42}}, nil, "ipc"},
		"user namespace":                {"web", userns(&runtime.UserNamespace{Uids: mapping(0, 65536, 65536), Gids: mapping(0, 65536, 65536)}), nil, ""},
		"host's user namespace":         {"web", userns(&runtime.UserNamespace{Mode: node}), nil, ""},
		"host's with mappings":          {"web", userns(&runtime.UserNamespace{Mode: node, Uids: mapping(0, 1, 1)}), nil, "mappings"},
		"user namespace of a container": {"web", userns(&runtime.UserNamespace{Mode: runtime.NamespaceMode_CONTAINER}), nil, "CONTAINER"},
		"no mapping":                    {"web", userns(&runtime.UserNamespace{}), nil, "uids: 0 mappings"},
		"two mappings":                  {"web", userns(&runtime.UserNamespace{Uids: append(mapping(0, 1, 1), mapping(1, 2, 1)...), Gids: mapping(0, 1, 1)}), nil, "uids: 2"},
		"root not mapped":               {"web", userns(&runtime.UserNamespace{Uids: mapping(0, 1, 10), Gids: mapping(1, 1, 10)}), nil, "gids"},
		"empty mapping":                 {"web", userns(&runtime.UserNamespace{Uids: mapping(0, 1, 0), Gids: mapping(0, 1, 10)}), nil, "uids"},
		"mapping too long":              {"web", userns(&runtime.UserNamespace{Uids: mapping(0, 1<<31, 1<<31), Gids: mapping(0, 1, 10)}), nil, "uids"},
		"sysctls":                       {"web", &ctx{}, map[string]string{"net.ipv4.ip_forward": "1", "kernel.shmmax": "5", "fs.mqueue.msg_max": "9", "net/ipv4/tcp_keepalive_time": "1\t2 3"}, ""},
		"sysctl of the host":            {"web", &ctx{}, map[string]string{"kernel.core_pattern": "|/x"}, "kernel.core_pattern"},
		"sysctl that looks like one":    {"web", &ctx{}, map[string]string{"kernel.shmmaxx": "1"}, "kernel.shmmaxx"},
		"net on the host's network":     {"", &ctx{NamespaceOptions: &runtime.NamespaceOption{Network: node}}, map[string]string{"net.core.somaxconn": "1"}, "network"},
		"shm in the host's ipc":         {"web", &ctx{NamespaceOptions: &runtime.NamespaceOption{Ipc: node}}, map[string]string{"kernel.shmmni": "1"}, "ipc"},
		"plus in a value":               {"web", &ctx{}, map[string]string{"kernel.shm_rmid_forced": "1+kernel.core_pattern=x"}, "kernel.shm_rmid_forced"},
		"line break in a value":         {"web", &ctx{}, map[string]string{"net.core.somaxconn": "1\n2"}, "net.core.somaxconn"},
		"name that climbs":              {"web", &ctx{}, map[string]string{"net.ipv4/../../kernel/core_pattern": "x"}, "not a kernel parameter's name"},
		"name with slashes that climbs": {"web", &ctx{}, map[string]string{"net/../kernel/core_pattern": "x"}, "not a kernel parameter's name"},
		"name with bytes":               {"web", &ctx{}, map[string]string{"net.ipv4.x y": "1"}, "not a kernel parameter's name"},
		"empty name":                    {"web", &ctx{}, map[string]string{"": "1"}, "name"},
	} {
		err := ValidateSandbox(&runtime.PodSandboxConfig{Hostname: c.hostname, Linux: &runtime.LinuxPodSandboxConfig{SecurityContext: c.security, Sysctls: c.sysctls}})
		if c.text == "" && err != nil || c.text != "" && (!errors.Is(err, pod.ErrInvalid) || !strings.Contains(err.Error(), c.text)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestDefaultSysctlsGiveWay(t *testing.T) {
	defaults := map[string]string{"net.ipv4.ping_group_range": "0 1", "net.ipv4.ip_unprivileged_port_start": "0", "kernel.pid_max": "1"}
	c := &runtime.PodSandboxConfig{Linux: &runtime.LinuxPodSandboxConfig{Sysctls: map[string]string{"net.ipv4.ip_unprivileged_port_start": "1024", "net/ipv4/conf/eth0.1/forwarding": "1"},
		SecurityContext: &runtime.LinuxSandboxSecurityContext{NamespaceOptions: &runtime.NamespaceOption{}}}}
	got, err := Sysctls(c, defaults)
	want := map[string]string{"net.ipv4.ping_group_range": "0 1", "net.ipv4.ip_unprivileged_port_start": "1024", "net.ipv4.conf.eth0/1.forwarding": "1"}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("%q, %v", got, err)
	}
	if p := swapSeparators("net.ipv4.conf.eth0/1.forwarding"); p != "net/ipv4/conf/eth0.1/forwarding" {
		t.Error(p)
	}
	c.Linux.SecurityContext.NamespaceOptions.Network, c.Linux.Sysctls = runtime.NamespaceMode_NODE, nil
	if got, err = Sysctls(c, defaults); err != nil || len(got) != 0 {
		t.Errorf("on the host's network: %q, %v", got, err)
	}
}

func FuzzSysctls(f *testing.F) {
	f.Add("net.ipv4.ip_forward", "1")
	f.Add("net/ipv4/conf/eth0.1/forwarding", "0 1\t2")
	f.Fuzz(func(t *testing.T, name, value string) { // property: what is accepted stays below /proc/sys/net, kernel or fs/mqueue
		got, err := Sysctls(&runtime.PodSandboxConfig{Linux: &runtime.LinuxPodSandboxConfig{Sysctls: map[string]string{name: value}}}, nil)
		for accepted, value := range got {
			p := swapSeparators(accepted)
			if err != nil || strings.Contains(p, "..") || strings.ContainsAny(p+value, "+=\n\x00") ||
				!strings.HasPrefix(p, "net/") && !strings.HasPrefix(p, "kernel/") && !strings.HasPrefix(p, "fs/mqueue/") {
				t.Fatalf("%q → %q: %q, %v", name, p, value, err)
			}
		}
	})
}

func TestStopSignalsHaveANameAndANumberThatNameEachOther(t *testing.T) {
	for value, word := range runtime.Signal_name {
		name, number, err := StopSignal(&runtime.ContainerConfig{StopSignal: runtime.Signal(value)}, v1.Image{})
		if err != nil || number < 1 || number > 64 {
			t.Errorf("%s: %d, %v", word, number, err)
		}
		if again, n, err := ParseSignal(name); err != nil || n != number || again != name {
			t.Errorf("%s: %s is %d, %v", word, name, n, err)
		}
	}
	for _, c := range []struct {
		request runtime.Signal
		image   string
		want    string
	}{
		{0, "", "SIGTERM"}, {0, "SIGQUIT", "SIGQUIT"}, {0, "3", "SIGQUIT"}, {0, "quit", "SIGQUIT"}, {0, "SIGRTMIN+3", "SIGRTMIN+3"}, {0, "37", "SIGRTMIN+3"},
		{0, "SIGRTMAX-1", "SIGRTMIN+29"}, {runtime.Signal_SIGNAL_SIGUSR1, "SIGQUIT", "SIGUSR1"}, {runtime.Signal_SIGNAL_SIGRTMAXMINUS2, "", "SIGRTMIN+28"},
		{runtime.Signal_SIGNAL_SIGIOT, "", "SIGABRT"}, {0, "SIGFUN", ""}, {0, "65", ""}, {0, "0", ""}, {0, "SIGRTMIN+31", ""}, {0, "SIGRTMIN-1", ""}, {0, "SIGRTMAX+1", ""}, {0, "-9", ""}, {999, "", ""},
	} {
		name, _, err := StopSignal(&runtime.ContainerConfig{StopSignal: c.request}, v1.Image{Config: v1.ImageConfig{StopSignal: c.image}})
		if name != c.want || (c.want == "") != errors.Is(err, pod.ErrInvalid) {
			t.Errorf("%+v: %q, %v", c, name, err)
		}
	}
}
