package network

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"
)

// TestMain plays four parts: first, the maker of a host of its own (network and mount
// namespace, one interface eth0 with addresses of both families), so that tests
// neither see nor touch the machine's; in there, the tests; for them, a CNI plugin,
// and a daemon that attaches and detaches pods until it is killed.
func TestMain(m *testing.M) {
	if behaviour := os.Getenv("VITRINE_TEST_PLUGIN"); behaviour != "" {
		os.Exit(playPlugin(behaviour))
	}
	if slices.ContainsFunc(os.Args, func(a string) bool { return strings.HasPrefix(a, "-test.fuzz=") || a == "-test.fuzzworker" }) {
		os.Exit(m.Run()) // fuzz targets are pure, and their workers inherit descriptors
	}
	if os.Getuid() != 0 {
		fmt.Fprintln(os.Stderr, "network: the tests need root")
		os.Exit(1)
	}
	if config := os.Getenv("VITRINE_TEST_DAEMON"); config != "" {
		os.Exit(playDaemon(config))
	}
	if os.Getenv("VITRINE_TEST_HOST") == "" {
		os.Exit(runInOwnHost())
	}
	if err := setUpHost(); err != nil {
		fmt.Fprintln(os.Stderr, "network: set up the tests' host:", err)
		os.Exit(1)
	}
	code := m.Run()
	if plugins.dir != "" {
		os.RemoveAll(plugins.dir)
	}
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

// The tests' host has one interface, at whose other end is the world: a network
// namespace, pinned at worldNS, that knows nothing but the link.
const (
	hostIPv4, hostIPv6   = "192.0.2.77", "fd42::77"
	worldIPv4, worldIPv6 = "192.0.2.200", "fd42::200"
)

// worldNS is mounted in the tests' own mount namespace only.
var worldNS = filepath.Join(os.Getenv("VITRINE_TEST_HOST"), "world")

func runInOwnHost() int {
	runtime.LockOSThread() // the death signal is the thread's
	dir, err := os.MkdirTemp("", "vitrine-host-")
	if err != nil {
		fmt.Fprintln(os.Stderr, "network: start the tests' host:", err)
		return 1
	}
	defer os.RemoveAll(dir)
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Env = append(os.Environ(), "VITRINE_TEST_HOST="+dir)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Run(); cmd.ProcessState == nil {
		fmt.Fprintln(os.Stderr, "network: start the tests' host:", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

func setUpHost() error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return err
	}
	if err := os.WriteFile(worldNS, nil, 0o600); err != nil {
		return err
	}
	if err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return err
		}
		return unix.Mount("/proc/thread-self/ns/net", worldNS, "", unix.MS_BIND, "")
	}); err != nil {
		return err
	}
	world, err := os.Open(worldNS)
	if err != nil {
		return err
	}
	defer world.Close()
	if err := ip("link set lo up", "link add eth0 type veth peer name world0",
		fmt.Sprintf("link set world0 netns /proc/%d/fd/%d", os.Getpid(), world.Fd()),
		"addr add "+hostIPv4+"/24 dev eth0", "addr add "+hostIPv6+"/64 dev eth0 nodad", "link set eth0 up"); err != nil {
		return err
	}
	return inNetNS(worldNS, func() error {
		return ip("addr add "+worldIPv4+"/24 dev world0", "addr add "+worldIPv6+"/64 dev world0 nodad", "link set world0 up")
	})
}

func ip(commands ...string) error {
	for _, args := range commands {
		if out, err := exec.Command("ip", strings.Fields(args)...).CombinedOutput(); err != nil {
			return fmt.Errorf("ip %s: %w: %s", args, err, out)
		}
	}
	return nil
}

// playPlugin is a chained CNI plugin that passes the result on, with a twist:
//
//	delay D              sleeps first
//	fail TEXT            exits with an error of code 7
//	killed TEXT          writes to stderr and dies by a signal
//	panic TEXT           panics
//	hang FILE            writes its pid to FILE, and a child's, and never ends
//	status-delay D       sleeps before it answers STATUS
//	status CODE          fails STATUS with the code, passes the rest
//	record FILE          appends command, arguments and stdin to FILE
func playPlugin(behaviour string) int {
	what, arg, _ := strings.Cut(behaviour, " ")
	stdin, _ := io.ReadAll(os.Stdin)
	command := os.Getenv("CNI_COMMAND")
	var conf struct {
		CNIVersion string          `json:"cniVersion"`
		PrevResult json.RawMessage `json:"prevResult"`
	}
	json.Unmarshal(stdin, &conf)
	switch what {
	case "delay":
		d, _ := time.ParseDuration(arg)
		time.Sleep(d)
	case "status-delay":
		if d, _ := time.ParseDuration(arg); command == "STATUS" {
			time.Sleep(d)
		}
	case "fail":
		if command == "ADD" {
			fmt.Printf(`{"cniVersion":"1.0.0","code":7,"msg":%q,"details":"looked twice"}`, arg)
			return 1
		}
	case "killed":
		if command == "ADD" {
			fmt.Fprintln(os.Stderr, "starting\n"+arg)
			unix.Kill(os.Getpid(), unix.SIGKILL)
		}
	case "panic":
		if command == "ADD" {
			debug.SetTraceback("system")
			panic(arg)
		}
	case "hang":
		if command == "ADD" {
			child := exec.Command("/bin/sleep", "600")
			child.Start()
			os.WriteFile(arg+".new", fmt.Appendf(nil, "%d %d", os.Getpid(), child.Process.Pid), 0o600)
			os.Rename(arg+".new", arg)
			time.Sleep(10 * time.Minute)
		}
	case "status":
		if command == "STATUS" {
			var code int
			fmt.Sscan(arg, &code)
			fmt.Printf(`{"cniVersion":"1.1.0","code":%d,"msg":"status says %d"}`, code, code)
			return 1
		}
	case "record":
		f, _ := os.OpenFile(arg, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		line, _ := json.Marshal(map[string]string{"command": command, "args": os.Getenv("CNI_ARGS"), "id": os.Getenv("CNI_CONTAINERID"),
			"netns": os.Getenv("CNI_NETNS"), "otel": os.Getenv("OTEL_EXPORTER_OTLP_HEADERS"), "traceparent": os.Getenv("TRACEPARENT"), "stdin": string(stdin)})
		f.Write(append(line, '\n'))
		f.Close()
	}
	switch {
	case command == "VERSION":
		fmt.Print(`{"cniVersion":"1.1.0","supportedVersions":["0.4.0","1.0.0","1.1.0"]}`)
	case command != "ADD":
	case conf.PrevResult != nil:
		os.Stdout.Write(conf.PrevResult)
	default:
		fmt.Printf(`{"cniVersion":%q,"ips":[{"address":"203.0.113.9/24"}]}`, conf.CNIVersion)
	}
	return 0
}

// playDaemon attaches and detaches pods, three at a time, until it is killed. It writes
// a byte when it begins.
func playDaemon(config string) int {
	var c Config
	if err := json.Unmarshal([]byte(config), &c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	n, err := New(context.Background(), c)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	os.Stdout.WriteString(".")
	var group sync.WaitGroup
	for i := range int32(3) {
		group.Go(func() {
			for {
				req, err := newSandbox(context.Background(), n)
				if err == nil {
					req.Ports = []Port{{HostPort: 21000 + i, ContainerPort: 80}}
					req.Status, err = n.Attach(context.Background(), req)
				}
				if err := errors.Join(err, n.Detach(context.Background(), req), n.RemoveNamespaces(context.Background(), req.ID)); err != nil {
					fmt.Fprintln(os.Stderr, err)
				}
			}
		})
	}
	group.Wait()
	return 0
}

type testDaemon struct {
	cmd    *exec.Cmd
	stdout io.Reader
}

// startDaemon starts the test binary as a daemon on the configuration.
func startDaemon(t *testing.T, config Config) *testDaemon {
	t.Helper()
	raw, err := json.Marshal(config)
	if err != nil {
		t.Fatal(err)
	}
	d := &testDaemon{cmd: exec.Command("/proc/self/exe")}
	d.cmd.Env = append(os.Environ(), "VITRINE_TEST_DAEMON="+string(raw))
	d.cmd.Stderr = os.Stderr
	if d.stdout, err = d.cmd.StdoutPipe(); err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { d.cmd.Process.Kill(); d.cmd.Wait() })
	return d
}

// killAfter kills the daemon at another moment of its work in each round.
func (d *testDaemon) killAfter(t *testing.T, round int) {
	t.Helper()
	if _, err := d.stdout.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Duration(round*23) * time.Millisecond)
	if err := d.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	d.cmd.Wait()
}
