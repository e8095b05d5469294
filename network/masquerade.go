package network

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os/exec"
	"strings"
	"time"
)

// Masquerading of the embedded default is one rule per family for its whole subnet,
// in an nftables table of its own, or, where there is no nft, in an iptables chain of
// its own. It is put there before the first pod and looked after on the way of later
// ones: a firewall that is reloaded takes it away.

// masqueradeLimit bounds the runs of nft or iptables.
const masqueradeLimit = 10 * time.Second

// masquerade puts the rules there unless they are: by nft, or where that is missing or
// the kernel will not have it, by iptables.
func masquerade(ctx context.Context, bridge string, subnets []netip.Prefix) error {
	nftErr := nftMasquerade(ctx, bridge, subnets)
	if nftErr == nil || ctx.Err() != nil {
		return nftErr
	}
	for _, s := range subnets {
		if err := iptablesMasquerade(ctx, bridge, s); err != nil {
			return errors.Join(nftErr, err)
		}
	}
	return nil
}

func nftMasquerade(ctx context.Context, bridge string, subnets []netip.Prefix) error {
	if _, err := run(ctx, nil, "nft", "list", "table", "inet", nftTable(bridge)); err == nil {
		return nil
	}
	_, err := run(ctx, []byte(nftRules(bridge, subnets)), "nft", "-f", "-")
	return err
}

// nftWorks says whether nft is there and the kernel answers it.
func nftWorks(ctx context.Context) bool {
	ctx, cancel := context.WithTimeout(ctx, masqueradeLimit)
	defer cancel()
	_, err := run(ctx, nil, "nft", "list", "tables")
	return err == nil
}

func nftTable(bridge string) string { return "vitrine_" + bridge }

// nftRules is the table as one transaction: made anew whether or not it was there.
func nftRules(bridge string, subnets []netip.Prefix) string {
	var rules strings.Builder
	table := nftTable(bridge)
	fmt.Fprintf(&rules, "add table inet %s\ndelete table inet %s\n", table, table)
	fmt.Fprintf(&rules, "table inet %s {\n\tchain postrouting {\n\t\ttype nat hook postrouting priority 100; policy accept;\n", table)
	for _, s := range subnets {
		family, multicast := "ip", multicastOf(s)
		if s.Addr().Is6() {
			family = "ip6"
		}
		fmt.Fprintf(&rules, "\t\t%s saddr %s %s daddr != { %s, %s } masquerade\n", family, s, family, s, multicast)
	}
	rules.WriteString("\t}\n}\n")
	return rules.String()
}

func multicastOf(s netip.Prefix) string {
	if s.Addr().Is6() {
		return "ff00::/8"
	}
	return "224.0.0.0/4"
}

func iptablesChain(bridge string) string { return "VITRINE-" + strings.ToUpper(bridge) } // at most 23 of 28 bytes

func iptablesFor(s netip.Prefix) string {
	if s.Addr().Is6() {
		return "ip6tables"
	}
	return "iptables"
}

func iptablesMasquerade(ctx context.Context, bridge string, s netip.Prefix) error {
	tables, chain := iptablesFor(s), iptablesChain(bridge)
	rules := fmt.Sprintf("*nat\n:%[1]s - [0:0]\n-F %[1]s\n-A %[1]s -d %[2]s -j RETURN\n-A %[1]s -d %[3]s -j RETURN\n-A %[1]s -j MASQUERADE\nCOMMIT\n",
		chain, s, multicastOf(s))
	if _, err := run(ctx, []byte(rules), tables+"-restore", "--noflush", "--wait", "5"); err != nil {
		return err
	}
	jump := []string{"POSTROUTING", "-s", s.String(), "-j", chain}
	if _, err := run(ctx, nil, tables, append([]string{"-w", "5", "-t", "nat", "-C"}, jump...)...); err == nil {
		return nil
	}
	_, err := run(ctx, nil, tables, append([]string{"-w", "5", "-t", "nat", "-A"}, jump...)...)
	return err
}

// unmasquerade removes the rules of either kind. Absence is success.
func unmasquerade(ctx context.Context, bridge string, subnets []netip.Prefix) error {
	ctx, cancel := context.WithTimeout(ctx, masqueradeLimit)
	defer cancel()
	var errs []error
	if table := nftTable(bridge); nftWorks(ctx) { // adding first makes the removal succeed in any case
		_, err := run(ctx, []byte("add table inet "+table+"\ndelete table inet "+table+"\n"), "nft", "-f", "-")
		errs = append(errs, err)
	}
	for _, s := range subnets {
		errs = append(errs, iptablesUnmasquerade(ctx, bridge, s))
	}
	return errors.Join(errs...)
}

func iptablesUnmasquerade(ctx context.Context, bridge string, s netip.Prefix) error {
	tables, chain := iptablesFor(s), iptablesChain(bridge)
	nat := func(args ...string) error {
		_, err := run(ctx, nil, tables, append([]string{"-w", "5", "-t", "nat"}, args...)...)
		return err
	}
	if nat("-S", chain) != nil {
		return nil // no such chain, or no iptables
	}
	jumpErr := nat("-D", "POSTROUTING", "-s", s.String(), "-j", chain)
	if err := errors.Join(nat("-F", chain), nat("-X", chain)); err != nil {
		return errors.Join(jumpErr, err)
	}
	return nil // a jump that was missing is no loss
}

// portmapTable is the table that the portmap plugin makes once per family and never
// removes (nftables backend).
const portmapTable = "cni_hostport"

// dropIdlePortmap removes portmap's tables when no mapping is in them, its own or
// another runtime's: the plugin marks each mapping's rule with a comment.
func dropIdlePortmap(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, masqueradeLimit)
	defer cancel()
	var errs []error
	for _, family := range []string{"ip", "ip6"} {
		out, err := run(ctx, nil, "nft", "-j", "list", "table", family, portmapTable)
		if err != nil {
			continue // no such table
		}
		var listing struct {
			Objects []struct {
				Rule *struct {
					Comment string `json:"comment"`
				} `json:"rule"`
			} `json:"nftables"`
		}
		if err := json.Unmarshal(out, &listing); err != nil {
			errs = append(errs, fmt.Errorf("read nft's listing: %w", err))
			continue
		}
		idle := true
		for _, o := range listing.Objects {
			idle = idle && (o.Rule == nil || o.Rule.Comment == "")
		}
		if idle {
			_, err := run(ctx, nil, "nft", "delete", "table", family, portmapTable)
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// lookSbin finds a program in PATH and where PATH of a daemon often does not lead.
func lookSbin(name string) (string, error) {
	path, err := exec.LookPath(name)
	for _, dir := range []string{"/usr/sbin/", "/sbin/"} {
		if err == nil {
			break
		}
		path, err = exec.LookPath(dir + name)
	}
	return path, err
}

// run executes a program and returns its stdout; the error holds the line of its stderr that says most.
func run(ctx context.Context, stdin []byte, name string, args ...string) ([]byte, error) {
	path, err := lookSbin(name)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, path, args...)
	stdout, stderr := &head{limit: maxPluginOutput}, &ends{limit: maxPluginStderr}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(stdin), stdout, stderr
	cmd.WaitDelay = pipeGrace
	if err := cmd.Run(); err != nil {
		return nil, fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, stderr.reason())
	}
	return stdout.buf.Bytes(), nil
}
