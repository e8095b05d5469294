package monitor

import "syscall"

// killRounds bounds the passes over a tree that keeps forking.
const killRounds = 16

// killTree ends the processes in roots with all their descendants and every process
// of a session that one of them belongs to and leads. The candidates are the members of
// the cgroup at group, or all processes when group is empty.
//
// All of it is stopped before any of it is killed: a parent that dies first would
// hide its children from the search, and one that runs on would fork more. It returns
// whom it killed; they may take a while to end.
func killTree(roots []int, group string) (tree map[int]process) {
	tree = map[int]process{}
	for range killRounds {
		if !grow(tree, roots, group) {
			break
		}
	}
	for _, p := range tree {
		p.signal(syscall.SIGKILL)
	}
	return tree
}

// grow adds to tree what belongs to it, stopped, and reports whether anything did.
func grow(tree map[int]process, roots []int, group string) (grown bool) {
	var candidates []process
	pids := roots
	if group != "" {
		pids = groupMembers(group, append([]int(nil), roots...))
	} else {
		pids = append(allProcesses(), roots...)
	}
	for _, pid := range pids {
		if p, ok := look(pid); ok && pid != syscall.Getpid() {
			candidates = append(candidates, p)
		}
	}
	for again := true; again; {
		again = false
		for _, p := range candidates {
			if _, known := tree[p.pid]; known || !belongs(p, tree, roots) {
				continue
			}
			p.signal(syscall.SIGSTOP)
			tree[p.pid] = p
			grown, again = true, true
		}
	}
	return grown
}

func belongs(p process, tree map[int]process, roots []int) bool {
	if contains(roots, p.pid) {
		return true
	}
	if _, child := tree[p.parent]; child {
		return true
	}
	_, led := tree[p.session]
	return led
}

// signal sends sig to the process if it is still the one that was looked at.
func (p process) signal(sig syscall.Signal) {
	fd, e := pidfdOpen(p.pid)
	if e != 0 {
		return
	}
	defer syscall.Close(fd)
	if again, ok := look(p.pid); ok && again.began == p.began {
		pidfdSignal(fd, sig)
	}
}

// signalGroup sends sig to every member of the cgroup at dir.
func signalGroup(dir string, sig syscall.Signal) {
	for range killRounds {
		pids := groupMembers(dir, nil)
		for _, pid := range pids {
			if p, ok := look(pid); ok && pid != syscall.Getpid() {
				p.signal(sig)
			}
		}
		if sig != syscall.SIGKILL || len(pids) == 0 {
			return
		}
	}
}
