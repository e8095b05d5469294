package harness

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/vishvananda/netlink"
)

// takeProcesses lists the instance's processes, without pids, so that two censuses compare.
func takeProcesses(in *Instance) ([]string, error) {
	pids, err := instancePIDs(in)
	if err != nil {
		return nil, err
	}
	items := make([]string, 0, len(pids))
	spares := 0
	for _, pid := range pids {
		switch {
		case keptSpare(in, pid):
			spares++
			continue
		case begins(pid): // a moment later it is what it will be, and its parent is counted
			continue
		}
		items = append(items, describe(pid))
	}
	if spares > 2 {
		items = append(items, fmt.Sprintf("%d processes of spares, a monitor and its launcher are kept", spares))
	}
	return items, nil
}

// begins reports whether the process is a child of the daemon or of a monitor between its fork
// and its execve.
func begins(pid int) bool {
	const forkNoExec = 0x40 // PF_FORKNOEXEC
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	head, rest, _ := bytes.Cut(raw, []byte(") "))
	fields := strings.Fields(string(rest)) // from the third one on
	if len(fields) < 7 || !bytes.HasSuffix(head, []byte("(vitrined")) && !bytes.HasSuffix(head, []byte("(vitrine-monitor")) {
		return false
	}
	flags, _ := strconv.ParseUint(fields[6], 10, 64)
	return flags&forkNoExec != 0
}

// keptSpare reports whether the process belongs to the spare monitor that a living daemon
// keeps or not, as it comes. Without its daemon it is a process like others.
func keptSpare(in *Instance, pid int) bool {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	program, argument, _ := strings.Cut(string(raw), "\x00")
	if strings.TrimRight(argument, " \x00") != filepath.Join(in.State(), "spare") {
		return false
	}
	_, parent := stat(pid)
	if program == "vitrine-launch" {
		return keptSpare(in, parent)
	}
	comm, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", parent))
	return string(comm) == "vitrined\n"
}

// instancePIDs returns the processes that belong to the instance: those in its
// cgroups, those whose root is one of its layers, the runtime's own binaries that
// name it in their command line, environment, directory or open files, and the
// zombies that one of these has not waited for.
func instancePIDs(in *Instance) ([]int, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	bin, err := Bin()
	if err != nil {
		return nil, err
	}
	hostMnt, err := os.Readlink("/proc/self/ns/mnt")
	if err != nil {
		return nil, err
	}
	var pids []int
	zombies := map[int]int{} // child → parent
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if state, parent := stat(pid); state == "Z" {
			zombies[pid] = parent
		} else if belongs(in, pid, bin, hostMnt) {
			pids = append(pids, pid)
		}
	}
	for child, parent := range zombies {
		if slices.Contains(pids, parent) {
			pids = append(pids, child)
		}
	}
	return pids, nil
}

func belongs(in *Instance, pid int, bin, hostMnt string) bool {
	dir := fmt.Sprintf("/proc/%d/", pid)
	mark := []byte(in.Name)
	names := func(file string) bool {
		raw, err := os.ReadFile(dir + file)
		return err == nil && bytes.Contains(raw, mark)
	}
	if names("cgroup") {
		return true
	}
	if mnt, err := os.Readlink(dir + "ns/mnt"); err == nil && mnt != hostMnt && rootMountOf(dir, mark) {
		return true
	}
	// A shell or an editor that a person points at the instance's files is not ours.
	// A shim is started by ours and named by its handler; a pod's first process is executed
	// from memory.
	exe, err := os.Readlink(dir + "exe")
	if err != nil || !strings.HasPrefix(exe, bin+"/") && !strings.HasPrefix(filepath.Base(exe), "containerd-shim-") && !strings.HasPrefix(exe, "/memfd:vitrine-enter") {
		return false
	}
	if names("cmdline") || names("environ") {
		return true
	}
	for _, link := range openFiles(dir) {
		if strings.Contains(link, in.Name) {
			return true
		}
	}
	return false
}

// openFiles returns the targets of the working directory and of all descriptors.
func openFiles(dir string) []string {
	links := []string{dir + "cwd"}
	fds, _ := os.ReadDir(dir + "fd")
	for _, fd := range fds {
		links = append(links, dir+"fd/"+fd.Name())
	}
	for i, link := range links {
		links[i], _ = os.Readlink(link)
	}
	return links
}

// stat returns the state letter and the parent of a process, zero values when it is gone.
func stat(pid int) (state string, parent int) {
	raw, _ := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if i := bytes.LastIndexByte(raw, ')'); i >= 0 {
		fmt.Sscanf(string(raw[i+1:]), " %1s %d", &state, &parent)
	}
	return state, parent
}

// rootMountOf reports whether "/" of the process is a mount that names the mark.
func rootMountOf(dir string, mark []byte) bool {
	raw, err := os.ReadFile(dir + "mountinfo")
	if err != nil {
		return false
	}
	for line := range bytes.Lines(raw) {
		fields := bytes.Fields(line)
		if len(fields) > 4 && string(fields[4]) == "/" {
			return bytes.Contains(line, mark)
		}
	}
	return false
}

// describe is "name: command line", or "name: zombie".
func describe(pid int) string {
	dir := fmt.Sprintf("/proc/%d/", pid)
	comm, _ := os.ReadFile(dir + "comm")
	cmdline, _ := os.ReadFile(dir + "cmdline")
	if state, _ := stat(pid); state == "Z" {
		cmdline = []byte("zombie")
	}
	return fmt.Sprintf("%s: %.160s", bytes.TrimSpace(comm), bytes.ReplaceAll(bytes.TrimRight(cmdline, "\x00"), []byte{0}, []byte(" ")))
}

// takeMounts lists the mounts of this process's namespace below the instance's directory.
func takeMounts(in *Instance) ([]string, error) {
	all, err := mountsBelow(in.Dir)
	var items []string
	for _, m := range all {
		if m.fstype != "nsfs" {
			items = append(items, m.fstype+" on "+m.point)
		}
	}
	return items, err
}

// takeNetns lists pinned namespaces: nsfs mounts, of whatever type.
func takeNetns(in *Instance) ([]string, error) {
	all, err := mountsBelow(in.Dir)
	var items []string
	for _, m := range all {
		if m.fstype == "nsfs" {
			items = append(items, m.root+" pinned at "+m.point)
		}
	}
	return items, err
}

type mount struct{ root, point, fstype string }

func mountsBelow(dir string) ([]mount, error) {
	f, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	defer f.Close()
	var found []mount
	for lines := bufio.NewScanner(f); lines.Scan(); {
		before, after, _ := strings.Cut(lines.Text(), " - ")
		fields := strings.Fields(before)
		if len(fields) > 4 && strings.HasPrefix(fields[4], dir) {
			fstype, _, _ := strings.Cut(after, " ")
			found = append(found, mount{root: fields[3], point: fields[4], fstype: fstype})
		}
	}
	return found, nil
}

// takeCgroups lists the instance's cgroups in every hierarchy. The parent itself
// is furniture: kubelet makes and keeps it.
func takeCgroups(in *Instance) ([]string, error) {
	var items []string
	dirs, err := instanceCgroups(in)
	for _, dir := range dirs {
		if filepath.Base(dir) != strings.TrimPrefix(in.CgroupParent(), "/") {
			items = append(items, strings.TrimPrefix(dir, cgroupRoot+"/"))
		}
	}
	return items, err
}

const cgroupRoot = "/sys/fs/cgroup"

// instanceCgroups returns directories, parents before children.
func instanceCgroups(in *Instance) ([]string, error) {
	var dirs []string
	err := filepath.WalkDir(cgroupRoot, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			if exists(path) {
				return err
			}
			return nil // removed while we walked
		}
		if e.IsDir() && strings.Contains(path, in.Name) {
			dirs = append(dirs, path)
		}
		return nil
	})
	return dirs, err
}

// takeLinks lists the ports of the instance's bridge. The bridge is furniture: the
// bridge plugin makes it for the first pod and never removes it.
func takeLinks(in *Instance) ([]string, error) {
	bridge, err := netlink.LinkByName(in.BridgeName())
	if err != nil {
		return nil, nil // not made yet
	}
	links, err := netlink.LinkList()
	for i := 0; errors.Is(err, netlink.ErrDumpInterrupted) && i < 20; i++ { // links came or went meanwhile
		links, err = netlink.LinkList()
	}
	if err != nil {
		return nil, err
	}
	var items []string
	for _, l := range links {
		if l.Attrs().MasterIndex == bridge.Attrs().Index {
			items = append(items, l.Type()+" on "+in.BridgeName())
		}
	}
	return items, nil
}

// takeRules lists the packet filter's rules that name the instance's network,
// bridge or subnet.
func takeRules(in *Instance) ([]string, error) {
	var items []string
	for _, tool := range []string{"iptables-save", "ip6tables-save"} {
		out, err := exec.Command(tool).Output()
		if err != nil {
			if tool == "ip6tables-save" {
				continue // no IPv6 in this kernel
			}
			return nil, fmt.Errorf("%s: %w", tool, err)
		}
		for line := range strings.Lines(string(out)) {
			if in.named(line) && !in.ofBridge(line) {
				items = append(items, strings.TrimSpace(line))
			}
		}
	}
	return items, nil
}

// takeFurniture lists the bridge, and the masquerading of the whole network: an
// nftables table, or an iptables chain where there is no nft.
func takeFurniture(in *Instance) ([]string, error) {
	var items []string
	if _, err := netlink.LinkByName(in.BridgeName()); err == nil {
		items = append(items, "bridge "+in.BridgeName())
	}
	for _, command := range [][]string{{"nft", "list", "tables"}, {"iptables-save", "-t", "nat"}, {"ip6tables-save", "-t", "nat"}} {
		out, err := exec.Command(command[0], command[1:]...).Output()
		if err != nil {
			continue // not on this host: nothing can have used it
		}
		for line := range strings.Lines(string(out)) {
			if in.ofBridge(line) || command[0] == "nft" && in.named(line) {
				items = append(items, strings.TrimSpace(line))
			}
		}
	}
	return items, nil
}

// ofBridge reports whether a rule belongs to the whole network rather than to a pod.
func (in *Instance) ofBridge(line string) bool {
	return strings.Contains(line, "VITRINE-"+strings.ToUpper(in.BridgeName()))
}

// named reports whether a line of a packet filter is about the instance.
func (in *Instance) named(line string) bool {
	return strings.Contains(line, in.Name) || strings.Contains(line, strings.TrimSuffix(in.Subnet, "0/24"))
}
