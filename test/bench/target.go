package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/telemetry/waterfall"
	"github.com/vitrine-runtime/vitrine/test/harness"
)

// A target is a runtime behind a CRI socket, with directories of its own for logs.
type target struct {
	name string
	*harness.Instance
	socket   string
	cri      *harness.CRI
	image    string
	registry string // where big images are pushed
	network  bool   // pods can have a network
	daemon   int    // pid of who listens on the socket
	close    func() error
	// plugins are nil for peers that were there before.
	plugins *plugins
	// trace asks a daemon of ours for a trace; nil for peers.
	trace func(context.Context, string) (*waterfall.Trace, error)
	// restart kills a daemon of ours and waits until the next one answers; nil for peers.
	restart func(context.Context) (time.Duration, error)
	// observe starts a daemon of ours anew with its always attached programs, or without;
	// nil for peers.
	observe func(ctx context.Context, on bool) error
}

func openPeer(ctx context.Context, socket string) (*target, error) {
	cri, err := harness.Dial(socket)
	if err != nil {
		return nil, err
	}
	v, err := cri.Version(ctx, &runtime.VersionRequest{})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("peer %s: %w", socket, err), cri.Close())
	}
	in, err := harness.NewInstance(harness.Options{})
	if err != nil {
		return nil, errors.Join(err, cri.Close())
	}
	return &target{name: v.RuntimeName + " " + v.RuntimeVersion, Instance: in, socket: socket, cri: cri, close: func() error {
		return errors.Join(cri.Close(), in.Sweep(), os.RemoveAll(in.Dir))
	}}, nil
}

// prepare pulls the test image and learns who the daemon is and whether it has a
// network.
func (t *target) prepare(ctx context.Context, hub *harness.Hub) (err error) {
	t.registry = hub.Addr
	if t.socket == "" {
		t.socket = t.Socket()
	}
	if t.daemon, err = listener(t.socket); err != nil {
		return err
	}
	if t.image, err = t.cri.Pull(ctx, hub.Image); err != nil {
		return fmt.Errorf("pull the test image: %w", err)
	}
	status, err := t.cri.RuntimeServiceClient.Status(ctx, &runtime.StatusRequest{})
	if err != nil {
		return err
	}
	for _, c := range status.GetStatus().GetConditions() {
		if c.Type == runtime.NetworkReady {
			t.network = c.Status
		}
	}
	return nil
}

// listener is the process that listens on a unix socket.
func listener(socket string) (int, error) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	raw, err := conn.(*net.UnixConn).SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var failure error
	if err := raw.Control(func(fd uintptr) { cred, failure = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if failure != nil {
		return 0, failure
	}
	return int(cred.Pid), nil
}

// monitorsOf are the processes in this process's mount namespace whose arguments name
// one of the containers or sandboxes, as those of every runtime's per-container process
// do. A process of that name may be another's: machines are shared.
func monitorsOf(ids []string) (pids []int, err error) {
	host, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, err
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		if mnt, err := os.Readlink(filepath.Join("/proc", e.Name(), "ns/mnt")); err != nil || mnt != host {
			continue
		}
		args, _ := os.ReadFile(filepath.Join("/proc", e.Name(), "cmdline"))
		if slices.ContainsFunc(ids, func(id string) bool { return bytes.Contains(args, []byte(id)) }) {
			pids = append(pids, pid)
		}
	}
	if len(pids) == 0 {
		return nil, errors.New("no process of a monitor was found")
	}
	return pids, nil
}

// cpuOf is the CPU time of a process's threads so far, in seconds; 0 when it is gone.
func cpuOf(pid int) float64 { return cpuFields(pid, 11, 12) }

// cpuOfFamily is cpuOf with that of the children which the process has waited for.
func cpuOfFamily(pid int) float64 { return cpuFields(pid, 11, 12, 13, 14) }

// cpuFields adds up fields of /proc/PID/stat (proc(5)), counted from the state.
func cpuFields(pid int, which ...int) (seconds float64) {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	_, rest, _ := strings.Cut(string(raw), ") ")
	f := strings.Fields(rest)
	for _, i := range which {
		if i < len(f) {
			ticks, _ := strconv.ParseFloat(f[i], 64)
			seconds += ticks / clockTicks
		}
	}
	return seconds
}

// cpuOfThreads is the CPU time of the threads that a process has now, in seconds, to the
// nanosecond (schedstat, Documentation/scheduler/sched-stats.rst): hundreds of idle
// processes use less than the hundredth of a second that cpuOf can tell.
func cpuOfThreads(pid int) (seconds float64) {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	for _, path := range threads {
		raw, _ := os.ReadFile(path)
		ran, _, _ := strings.Cut(string(raw), " ")
		nanoseconds, _ := strconv.ParseFloat(ran, 64)
		seconds += nanoseconds / 1e9
	}
	return seconds
}

// memory is what a process costs, in bytes: its proportional share, and what nobody
// shares with it.
type memory struct{ pss, private int64 }

func memoryOf(pid int) (memory, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return memory{}, err
	}
	var m memory
	for line := range strings.Lines(string(raw)) {
		var kib int64
		if _, err := fmt.Sscanf(line, "Pss: %d kB", &kib); err == nil {
			m.pss = kib << 10
		}
		if _, err := fmt.Sscanf(line, "Private_Dirty: %d kB", &kib); err == nil {
			m.private = kib << 10
		}
	}
	return m, nil
}

// cpuSeconds is the machine's busy time since boot, in seconds.
func cpuSeconds() (float64, error) {
	raw, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, err
	}
	line, _, _ := strings.Cut(string(raw), "\n")
	var ticks float64
	for i, field := range strings.Fields(line)[1:] {
		if i == 3 || i == 4 || i > 7 { // idle, iowait; guest time is in user time already
			continue
		}
		n, err := strconv.ParseFloat(field, 64)
		if err != nil {
			return 0, err
		}
		ticks += n
	}
	return ticks / float64(clockTicks), nil
}

// clockTicks is USER_HZ, which is 100 on every architecture Linux still has.
const clockTicks = 100

// dropped is a process that went away while it was looked at.
func dropped(err error) bool { return errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) }
