package libct

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
	"time"
	"unsafe"

	"github.com/opencontainers/runc/libcontainer"
	"github.com/opencontainers/runc/libcontainer/configs"
	"github.com/opencontainers/runc/libcontainer/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"

	"github.com/vitrine-runtime/vitrine/launch"
	"github.com/vitrine-runtime/vitrine/launch/enter"
)

// tellFacts writes what an exec session needs to know of the container, if it needs no
// libcontainer, beside the container's start. The returned function waits for the end; an
// error costs exec sessions time.
func (j *job) tellFacts(facts enter.Facts, unknown error) (wait func()) {
	if unknown != nil {
		return func() {}
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = enter.WriteFacts(j.request.Bundle, facts)
	}()
	return func() { <-done }
}

// facts are those of a container that may not have been started. Profile is offerFilter's
// name of its seccomp profile.
func (j *job) facts(container *libcontainer.Container, profile string) (f enter.Facts, err error) {
	config := container.Config()
	if !entersPlainly(&config) || config.Seccomp != nil && (j.request.Filters == "" || profile == "") {
		return f, enter.ErrNeedsLibcontainer
	}
	state, err := container.State()
	if err != nil {
		return f, err
	}
	f.Unified = state.CgroupPaths[""]
	if !config.NoNewKeyring {
		f.Keyring = "_ses." + container.ID() // libcontainer's name
	}
	for _, ns := range config.Namespaces {
		if ns.Path != "" {
			f.Namespaces = append(f.Namespaces, enter.Namespace{Flag: uint64(ns.Syscall()), Path: ns.Path})
		}
	}
	for controller, dir := range state.CgroupPaths {
		if controller != "" && !slices.Contains(f.Cgroups, dir) {
			f.Cgroups = append(f.Cgroups, dir)
		}
	}
	if dir := state.CgroupPaths["freezer"]; dir != "" {
		f.Freezer, f.Thawed = filepath.Join(dir, "freezer.state"), "THAWED"
	} else if f.Unified != "" {
		f.Freezer, f.Thawed = filepath.Join(f.Unified, "cgroup.freeze"), "0"
	}
	if config.Seccomp != nil {
		f.Filter, f.FilterFlags = filepath.Join(j.request.Filters, profile+"-"+buildMark()), filterFlags(config.Seccomp)
	}
	return f, nil
}

// buildMark tells one build of this program from another, which may make another filter
// of the same profile.
func buildMark() string {
	info, err := os.Stat("/proc/self/exe")
	if err != nil {
		return "0"
	}
	return strconv.FormatInt(info.Size(), 36) + strconv.FormatInt(info.ModTime().UnixNano(), 36)
}

// entersPlainly tells whether vitrine-enter knows all that the configuration asks of an
// exec session. An AppArmor profile is its process's: libcontainer's conversion of a
// specification keeps none for the container.
func entersPlainly(c *configs.Config) bool {
	odd := c.RootlessEUID || c.RootlessCgroups || len(c.UIDMappings)+len(c.GIDMappings) > 0 ||
		c.Umask != nil || c.Personality != nil || c.MemoryPolicy != nil || c.IntelRdt != nil ||
		c.Scheduler != nil || c.IOPriority != nil || c.ExecCPUAffinity != nil ||
		c.AppArmorProfile != "" || c.ProcessLabel != "" || !c.Namespaces.Contains(configs.NEWNS)
	for _, ns := range c.Namespaces {
		odd = odd || ns.Type == configs.NEWUSER || ns.Type == configs.NEWTIME || ns.Type == configs.NEWNS && ns.Path != ""
	}
	if s := c.Seccomp; s != nil {
		odd = odd || s.ListenerPath != "" || s.DefaultAction == configs.Notify ||
			slices.ContainsFunc(s.Syscalls, func(call *configs.Syscall) bool { return call.Action == configs.Notify }) ||
			slices.ContainsFunc(s.Flags, func(f specs.LinuxSeccompFlag) bool { _, known := flagBits[f]; return !known })
	}
	return !odd
}

// flagBits are seccomp(2)'s for the flags of a profile. Libcontainer takes no notice of
// the first: there is one thread.
var flagBits = map[specs.LinuxSeccompFlag]uint64{
	"SECCOMP_FILTER_FLAG_TSYNC":     0,
	specs.LinuxSeccompFlagLog:       unix.SECCOMP_FILTER_FLAG_LOG,
	specs.LinuxSeccompFlagSpecAllow: unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW,
}

func filterFlags(s *configs.Seccomp) (bits uint64) {
	for _, f := range s.Flags {
		bits |= flagBits[f]
	}
	return bits
}

// Learn asks the kernel what it has made of the seccomp profile of the container that has just
// had an exec session, once for each profile, so that later sessions need no libcontainer.
// It is for the time after the answer: nobody waits for it, and its error costs them that.
func Learn(request launch.Request) error {
	facts, err := enter.ReadFacts(request.Bundle)
	if errors.Is(err, os.ErrNotExist) || err == nil && facts.Filter == "" {
		return nil
	}
	if err != nil {
		return err
	}
	if _, err := os.Lstat(facts.Filter); err == nil {
		if _, err := enter.ReadFilter(facts.Filter); err == nil {
			return nil
		}
	}
	if err := os.MkdirAll(filepath.Dir(facts.Filter), 0o700); err != nil {
		return err
	}
	container, err := libcontainer.Load(request.Root, request.ID)
	if err != nil {
		return err
	}
	profile, err := json.Marshal(container.Config().Seccomp)
	if err != nil {
		return err
	}
	filter, err := loadedFilter(profile)
	if err != nil {
		return fmt.Errorf("learn seccomp filter: %w", err)
	}
	return enter.WriteFilter(facts.Filter, filter)
}

// learnBound is how long a process may take to load a filter.
const learnBound = 10 * time.Second

// loadedFilter has libcontainer load the profile into a process that is good for nothing
// else, and reads it from there.
func loadedFilter(profile []byte) (enter.Filter, error) {
	runtime.LockOSThread() // a tracer is a thread
	defer runtime.UnlockOSThread()
	c := exec.Command("/proc/self/exe", "filter")
	c.Stdin = bytes.NewReader(profile)
	c.Env = []string{"GOMAXPROCS=1", "GOGC=off"}
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := c.Start(); err != nil {
		return nil, err
	}
	defer func() {
		_ = c.Process.Kill()
		_ = c.Wait()
	}()
	pid := c.Process.Pid
	for deadline := time.Now().Add(learnBound); !filtered(pid); time.Sleep(200 * time.Microsecond) {
		if time.Now().After(deadline) {
			return nil, fmt.Errorf("no process has it after %v", learnBound)
		}
		if dead(pid) {
			return nil, errors.New("a process with it does not live")
		}
	}
	return readFilter(pid)
}

// readFilter returns the only filter of a process.
func readFilter(pid int) (enter.Filter, error) {
	const seize, interrupt, getFilter = 0x4206, 0x4207, 0x420c
	if _, err := ptrace(seize, pid, 0, nil); err != nil {
		return nil, err
	}
	if _, err := ptrace(interrupt, pid, 0, nil); err != nil {
		return nil, err
	}
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, unix.WALL, nil)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return nil, err
		}
		break
	}
	if !status.Stopped() {
		return nil, errors.New("the process with it has ended")
	}
	n, err := ptrace(getFilter, pid, 0, nil)
	if err != nil {
		return nil, err
	}
	filter := make(enter.Filter, 8*n)
	if _, err := ptrace(getFilter, pid, 0, unsafe.Pointer(&filter[0])); err != nil {
		return nil, err
	}
	if _, err := ptrace(getFilter, pid, 1, nil); err != unix.ENOENT {
		return nil, fmt.Errorf("there is more than one: %w", err)
	}
	return filter, nil
}

func ptrace(request, pid int, address uintptr, data unsafe.Pointer) (int, error) {
	n, _, errno := unix.Syscall6(unix.SYS_PTRACE, uintptr(request), uintptr(pid), address, uintptr(data), 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}

// filtered tells whether the process's first thread has a filter.
func filtered(pid int) bool {
	raw, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	return bytes.Contains(raw, []byte("\nSeccomp:\t2\n"))
}

// dead tells whether the process has ended and waits for its parent.
func dead(pid int) bool {
	raw, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	return bytes.Contains(raw, []byte("\nState:\tZ"))
}

// LoadFilter loads the profile on standard input and does not return. It is the process in
// which loadedFilter looks; it must run before main, on the process's first thread, and
// calls nothing afterwards, because the filter may refuse everything.
func LoadFilter() {
	runtime.LockOSThread()
	var profile configs.Seccomp
	if err := json.NewDecoder(os.Stdin).Decode(&profile); err != nil {
		os.Exit(1)
	}
	if _, err := seccomp.InitSeccomp(&profile); err != nil {
		os.Exit(1)
	}
	for { //nolint:staticcheck // see above
	}
}
