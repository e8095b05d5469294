package harness

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Sweep removes by force whatever of the instance is left, apart from its directory.
func (in *Instance) Sweep() error {
	return errors.Join(in.killProcesses(), in.unmountAll(), in.removeCgroups(), in.removeLink(), in.removeRules())
}

// killProcesses kills by pid what carries the mark, until nothing does.
func (in *Instance) killProcesses() error {
	for range 100 {
		pids, err := instancePIDs(in)
		if err != nil || len(pids) == 0 {
			return err
		}
		for _, pid := range pids {
			syscall.Kill(pid, syscall.SIGKILL)
		}
		time.Sleep(20 * time.Millisecond)
	}
	return fmt.Errorf("processes of %s do not die", in.Name)
}

func (in *Instance) unmountAll() error {
	all, err := mountsBelow(in.Dir)
	for _, m := range slices.Backward(all) {
		if e := unix.Unmount(m.point, unix.MNT_DETACH); e != nil && !errors.Is(e, unix.EINVAL) {
			err = errors.Join(err, fmt.Errorf("unmount %s: %w", m.point, e))
		}
	}
	return err
}

func (in *Instance) removeCgroups() error {
	dirs, err := instanceCgroups(in)
	for _, dir := range slices.Backward(dirs) {
		if e := removeCgroup(dir); e != nil {
			err = errors.Join(err, e)
		}
	}
	return err
}

// removeCgroup retries for a second: on cgroup v1 the last exit may still be under way.
func removeCgroup(dir string) error {
	var err error
	for range 50 {
		if err = os.Remove(dir); err == nil || errors.Is(err, os.ErrNotExist) {
			return nil
		}
		time.Sleep(20 * time.Millisecond)
	}
	return err
}

func (in *Instance) removeLink() error {
	link, err := netlink.LinkByName(in.BridgeName())
	if err != nil {
		return nil
	}
	return netlink.LinkDel(link)
}

// removeRules deletes the rules that name the instance, and the chains that plugins
// made for them; base chains that the portmap plugin shares between networks stay, as
// they do for everybody.
func (in *Instance) removeRules() error {
	var errs []error
	for _, tool := range []string{"iptables", "ip6tables"} {
		out, err := exec.Command(tool + "-save").Output()
		if err != nil {
			continue // not there: nothing can have used it
		}
		table := ""
		var rules, chains []string
		for line := range strings.Lines(string(out)) {
			line = strings.TrimSpace(line)
			if rest, is := strings.CutPrefix(line, "*"); is {
				table = rest
			}
			rule, is := strings.CutPrefix(line, "-A ")
			if !is || !in.named(line) {
				continue
			}
			rules = append(rules, tool+" -w -t "+table+" -D "+rule)
			if chain, _, _ := strings.Cut(rule, " "); strings.HasPrefix(chain, "CNI-") && !slices.Contains(sharedChains, chain) || in.ofBridge(chain) {
				chains = append(chains, tool+" -w -t "+table+" -X "+chain)
			}
		}
		slices.Sort(chains)
		for _, command := range append(rules, slices.Compact(chains)...) {
			if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
				errs = append(errs, fmt.Errorf("%s: %w: %s", command, err, out))
			}
		}
	}
	out, _ := exec.Command("nft", "list", "tables").Output() // without nft nobody made any
	for line := range strings.Lines(string(out)) {
		if in.named(line) {
			errs = append(errs, exec.Command("nft", append([]string{"delete"}, strings.Fields(line)...)...).Run())
		}
	}
	return errors.Join(errs...)
}

// sharedChains are the reference plugins' own, used by every network of the host.
var sharedChains = []string{"CNI-HOSTPORT-DNAT", "CNI-HOSTPORT-SETMARK", "CNI-HOSTPORT-MASQ", "CNI-FORWARD", "CNI-ADMIN"}
