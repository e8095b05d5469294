package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// floorRuns is how often each floor is measured.
const floorRuns = 200

// measureFloor asks the kernel for what a container's start cannot do without, and
// nothing else: namespaces, an overlay as root, pivot_root, cgroups, one static
// program that ends. What a runtime takes beyond that is its own.
func measureFloor(r *report) error {
	dir, err := os.MkdirTemp("", "floor")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	if err := floorImage(filepath.Join(dir, "lower/bin")); err != nil {
		return err
	}
	for _, c := range []struct {
		name  string
		flags int
	}{{"host c1 pod up", 0}, {"cni c1 pod up", unix.CLONE_NEWNET}} {
		for i := range floorRuns {
			took, err := floorOnce(filepath.Join(dir, fmt.Sprint(c.flags, "-", i)), filepath.Join(dir, "lower"), c.flags)
			if err != nil {
				return err
			}
			r.add(kernel, c.name, milliseconds, took.Seconds()*1000)
		}
	}
	return nil
}

// floorImage makes a root file system of one static program.
func floorImage(bin string) error {
	if err := os.MkdirAll(bin, 0o755); err != nil {
		return err
	}
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(bin, "true"), program, 0o755)
}

func floorOnce(dir, lower string, flags int) (time.Duration, error) {
	for _, sub := range []string{"upper", "work", "root"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			return 0, err
		}
	}
	from := time.Now()
	cgroups, err := makeCgroups(filepath.Base(filepath.Dir(dir)) + "-" + filepath.Base(dir))
	if err == nil {
		failed := make(chan error, 1)
		go func() { // waited for below
			// The thread gives away its namespaces, so it must end with the
			// goroutine: it is locked and never unlocked.
			runtime.LockOSThread()
			failed <- contain(dir, lower, cgroups, flags)
		}()
		err = <-failed
	}
	for _, c := range cgroups {
		err = errors.Join(err, os.Remove(c))
	}
	return time.Since(from), err
}

// contain is a container's life as the kernel alone needs it.
func contain(dir, lower string, cgroups []string, flags int) error {
	if err := unix.Unshare(unix.CLONE_FS | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | flags); err != nil {
		return fmt.Errorf("unshare: %w", err)
	}
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("private mounts: %w", err)
	}
	root := filepath.Join(dir, "root")
	data := "lowerdir=" + lower + ",upperdir=" + filepath.Join(dir, "upper") + ",workdir=" + filepath.Join(dir, "work")
	if err := unix.Mount("overlay", root, "overlay", 0, data); err != nil {
		return fmt.Errorf("mount overlay: %w", err)
	}
	// Opened before the pivot: afterwards the host's tree is gone.
	procs := make([]*os.File, 0, len(cgroups))
	for _, c := range cgroups {
		f, err := os.OpenFile(filepath.Join(c, "cgroup.procs"), os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		defer f.Close()
		procs = append(procs, f)
	}
	if err := errors.Join(unix.Chdir(root), unix.PivotRoot(".", "."), unix.Unmount(".", unix.MNT_DETACH)); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	p, err := os.StartProcess("/bin/true", []string{"true"}, &os.ProcAttr{Dir: "/", Sys: &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWPID}})
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	for _, f := range procs { // an ended process may be attached too, until it is waited for
		fmt.Fprint(f, p.Pid)
	}
	_, err = p.Wait()
	return err
}

// makeCgroups makes one cgroup per hierarchy that has a container's controllers.
func makeCgroups(name string) ([]string, error) {
	parents, err := filepath.Glob("/sys/fs/cgroup/*/cgroup.procs")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat("/sys/fs/cgroup/cgroup.procs"); err == nil {
		parents = []string{"/sys/fs/cgroup/cgroup.procs"}
	}
	var made []string
	for _, p := range parents {
		dir := filepath.Join(filepath.Dir(p), "floor-"+name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return made, err
		}
		made = append(made, dir)
		if strings.Contains(dir, "/cpuset/") { // refuses processes until it has these
			for _, f := range []string{"cpuset.cpus", "cpuset.mems"} {
				value, err := os.ReadFile(filepath.Join(filepath.Dir(p), f))
				if err != nil {
					return made, err
				}
				if err := os.WriteFile(filepath.Join(dir, f), value, 0); err != nil {
					return made, err
				}
			}
		}
	}
	return made, nil
}
