package client_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The first process of a shared pid namespace reaps what others leave, costs next to
// nothing, and has nothing that whoever traces it could use.
func TestFirstProcessOfASharedNamespaceReapsAndHasNothing(t *testing.T) {
	dir := t.TempDir()
	pid, err := enterer(t).Hold(dir, false, []string{"/proc/self/ns/uts"})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(pid, unix.SIGKILL)
	proc := fmt.Sprintf("/proc/%d/", pid)
	// The shell leaves orphans to it, as their parent in the namespace.
	if out, err := exec.Command("nsenter", "-t", strconv.Itoa(pid), "-p", "sh", "-c", "(sleep 0.05 & sleep 0.05 & exit 0)").CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	children := func() string {
		raw, _ := os.ReadFile(proc + "task/" + strconv.Itoa(pid) + "/children")
		return strings.TrimSpace(string(raw))
	}
	for deadline := time.Now().Add(time.Minute); children() != ""; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not reaped: %s", children())
		}
	}
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Name:\tvitrine-pod\n", "Uid:\t65535\t65535\t65535\t65535\n", "Gid:\t65535\t65535\t65535\t65535\n", "Groups:\t \n",
		"CapInh:\t0000000000000000\n", "CapPrm:\t0000000000000000\n", "CapBnd:\t0000000000000000\n", "CapAmb:\t0000000000000000\n", "NoNewPrivs:\t1\n", "Seccomp:\t2\n", "Threads:\t1\n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("status has no %q:\n%s", want, status)
		}
	}
	for _, empty := range []string{"root", "cwd", "fd"} {
		if entries, err := os.ReadDir(proc + empty); err != nil || len(entries) > 0 {
			t.Errorf("%s has %v, %v", empty, entries, err)
		}
	}
	if err := os.WriteFile(proc+"root/file", nil, 0o600); err == nil {
		t.Error("its root can be written to")
	}
	if mounts, err := os.ReadFile(proc + "mounts"); err != nil || strings.Count(string(mounts), "\n") != 1 {
		t.Errorf("mounts: %s, %v", mounts, err)
	}
	if environ, err := os.ReadFile(proc + "environ"); err != nil || len(environ) > 0 {
		t.Errorf("environment %q, %v", environ, err)
	}
	if exe, err := os.OpenFile(proc+"exe", os.O_WRONLY, 0); err == nil {
		exe.Close()
		t.Error("its program can be written to")
	}
	for kind, own := range map[string]bool{"pid": true, "mnt": true, "cgroup": true, "uts": false, "user": false} {
		ours, _ := os.Readlink("/proc/self/ns/" + kind)
		if theirs, err := os.Readlink(proc + "ns/" + kind); err != nil || (theirs != ours) != own {
			t.Errorf("namespace %s is %s, ours %s, %v", kind, theirs, ours, err)
		}
	}
	if raw, err := os.ReadFile(proc + "cmdline"); err != nil || !strings.Contains(string(raw), "\x00"+dir+"\x00") {
		t.Errorf("it cannot be found by %q, %v", raw, err)
	}
	t.Logf("private dirty %d kB", field(t, pid, "smaps_rollup", "Private_Dirty"))
	if err := unix.Kill(pid, unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	for deadline := time.Now().Add(time.Minute); syscall.Kill(pid, 0) == nil; time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("it was not reaped")
		}
	}
}

// What cannot be entered is said, and nothing is left.
func TestSharedNamespaceThatCannotBeMadeIsExplained(t *testing.T) {
	e := enterer(t)
	missing := filepath.Join(t.TempDir(), "net")
	if pid, err := e.Hold(t.TempDir(), false, []string{missing}); err == nil || !strings.Contains(err.Error(), "join: no such file") {
		t.Errorf("process %d, %v", pid, err)
	}
}

// In a pod with its own users the namespace is theirs: their root mounts its /proc.
func TestSharedNamespaceBelongsToThePodsUsers(t *testing.T) {
	sleeper := exec.Command("sleep", "1000")
	sleeper.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS,
		UidMappings:                []syscall.SysProcIDMap{{HostID: 200000, Size: 65536}},
		GidMappings:                []syscall.SysProcIDMap{{HostID: 300000, Size: 65536}},
		GidMappingsEnableSetgroups: true,
	}
	if _, err := os.Stat("/proc/self/ns/user"); err != nil {
		t.Skip("needs user namespaces (CONFIG_USER_NS): ", err)
	}
	if err := sleeper.Start(); err != nil {
		t.Fatal(err)
	}
	defer sleeper.Wait()
	defer sleeper.Process.Kill()
	ns := fmt.Sprintf("/proc/%d/ns/", sleeper.Process.Pid)
	pid, err := enterer(t).Hold(t.TempDir(), true, []string{ns + "user", ns + "net", ns + "ipc", ns + "uts"})
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(pid, unix.SIGKILL)
	proc := fmt.Sprintf("/proc/%d/", pid)
	status, err := os.ReadFile(proc + "status")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"Uid:\t200000\t200000\t200000\t200000\n", "Gid:\t300000\t300000\t300000\t300000\n", "CapPrm:\t0000000000000000\n", "CapBnd:\t0000000000000000\n", "Seccomp:\t2\n"} {
		if !strings.Contains(string(status), want) {
			t.Errorf("status has no %q:\n%s", want, status)
		}
	}
	if entries, err := os.ReadDir(proc + "root"); err != nil || len(entries) > 0 {
		t.Errorf("its root has %v, %v", entries, err)
	}
	script := "mount -t proc proc /proc && ! ls /proc/1/root/ 2>/dev/null && { kill -9 1; cat /proc/1/comm; }"
	out, err := exec.Command("nsenter", "--user="+ns+"user", "--pid="+proc+"ns/pid", "unshare", "--mount", "sh", "-c", script).CombinedOutput()
	if err != nil || string(out) != "vitrine-pod\n" {
		t.Errorf("its /proc in the pod: %v: %s", err, out)
	}
}
