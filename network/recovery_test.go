package network

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

func TestAMissingPluginIsNamedAndDetachFinishesLater(t *testing.T) {
	n, bin := open(t, nil)
	installPlugin(t, bin, "extra", "delay 0s")
	list := embeddedPlugins(t, n)
	writeConf(t, n, "10.conflist", "1.0.0", "chain", list[0], `{"type":"extra"}`)
	eventually(t, "the new network", func() bool { return n.Status().Name == "chain" })
	req := attach(t, n, nil)
	if err := os.Remove(filepath.Join(bin, "extra")); err != nil {
		t.Fatal(err)
	}
	if err := n.Ready(); err == nil || !strings.Contains(err.Error(), `"extra"`) {
		t.Errorf("Ready: %v", err)
	}
	if _, err := n.Attach(t.Context(), sandbox(t, n)); !errors.Is(err, ErrPluginMissing) || !strings.Contains(err.Error(), `"extra"`) {
		t.Errorf("Attach: %v", err)
	}
	err := n.Detach(t.Context(), req)
	if !errors.Is(err, ErrPluginMissing) || !strings.Contains(err.Error(), `"extra"`) {
		t.Errorf("Detach: %v", err)
	}
	if leases := leases(t, n, "chain"); leases != 0 {
		t.Errorf("%d addresses are still leased: the plugins that exist were not run", leases)
	}
	if err := n.RemoveNamespaces(t.Context(), req.ID); err != nil { // as lifecycle goes on
		t.Fatal(err)
	}
	installPlugin(t, bin, "extra", "delay 0s")
	if err := n.GC(t.Context(), nil); err != nil {
		t.Errorf("GC with the plugin back: %v", err)
	}
	ids, _ := n.files.ids()
	if len(ids) != 0 {
		t.Errorf("attachments left: %v", ids)
	}
}

// leases counts the embedded lease directory's addresses of a network.
func leases(t *testing.T, n *Network, network string) int {
	t.Helper()
	entries, _ := os.ReadDir(filepath.Join(n.builtin.leaseDir(), network))
	count := 0
	for _, e := range entries {
		if e.Name() != "lock" && !strings.HasPrefix(e.Name(), "last_reserved") {
			count++
		}
	}
	return count
}

func TestDetachWorksWithoutNamespaceAndWithChangedConfiguration(t *testing.T) {
	n, _ := open(t, nil)
	list := embeddedPlugins(t, n)
	writeConf(t, n, "10.conflist", "0.4.0", "first", list[0])
	eventually(t, "the first network", func() bool { return n.Status().Name == "first" })
	a, b, c := attach(t, n, nil), attach(t, n, nil), attach(t, n, nil)
	writeConf(t, n, "10.conflist", "1.0.0", "second", strings.Replace(list[0], n.config.Bridge, "other", 1))
	eventually(t, "the second network", func() bool { return n.Status().Name == "second" })
	if err := n.RemoveNamespaces(t.Context(), a.ID); err != nil { // the namespace is gone before DEL
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(n.files.dir, b.ID)); err != nil { // only the sandbox's record knows
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(n.files.dir, c.ID), []byte("{damaged"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, req := range []AttachRequest{a, b, c} {
		for range 2 {
			if err := n.Detach(t.Context(), req); err != nil {
				t.Error(err)
			}
		}
	}
	if got := leases(t, n, "first"); got != 0 {
		t.Errorf("%d addresses are still leased", got)
	}
	if err := n.Detach(t.Context(), AttachRequest{ID: "never-attached"}); err != nil {
		t.Error(err)
	}
}

func TestDamagedAttachmentWithoutRecordDoesNotStick(t *testing.T) {
	n, _ := open(t, nil)
	a := attach(t, n, nil)
	if err := os.WriteFile(filepath.Join(n.files.dir, a.ID), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	a.Status = pod.NetworkStatus{}
	if err := n.Detach(t.Context(), a); err != nil {
		t.Error(err)
	}
	if got := leases(t, n, n.config.Bridge); got != 0 {
		t.Errorf("%d addresses are still leased", got)
	}
}

func TestGCReleasesWhatNobodyKeepsAndNothingElse(t *testing.T) {
	n, _ := open(t, nil)
	kept, lost, rebooted := attach(t, n, nil), attach(t, n, nil), attach(t, n, nil)
	if err := n.RemoveNamespaces(t.Context(), rebooted.ID); err != nil {
		t.Fatal(err)
	}
	// A lease whose attachment file is lost, as after a power failure.
	orphan := filepath.Join(n.builtin.leaseDir(), n.config.Bridge, "10.1.1.1")
	if err := os.WriteFile(orphan, []byte("nobody\r\neth0"), 0o600); err != nil {
		t.Fatal(err)
	}
	// One whose content is lost, and one that is just being written.
	empty, begun := filepath.Join(filepath.Dir(orphan), "10.1.1.2"), filepath.Join(filepath.Dir(orphan), "10.1.1.3")
	long := time.Now().Add(-time.Hour)
	if err := errors.Join(os.WriteFile(empty, nil, 0o600), os.Chtimes(empty, long, long), os.WriteFile(begun, nil, 0o600)); err != nil {
		t.Fatal(err)
	}
	again, err := New(t.Context(), n.config) // the daemon restarts
	if err != nil {
		t.Fatal(err)
	}
	defer again.Close()
	newcomer := attach(t, again, nil) // before recovery has come to GC, and not known to it
	if err := again.GC(t.Context(), []AttachRequest{kept}); err != nil {
		t.Fatal(err)
	}
	if got := leases(t, n, n.config.Bridge); got != 5 {
		t.Errorf("%d addresses are leased, want two of the kept pod, two of the newcomer, and the one being written", got)
	}
	serve(t, newcomer.NetNS, ":80", "newcomer")
	mustAsk(t, "", net.JoinHostPort(newcomer.Status.IPs[0], "80"), "newcomer")
	serve(t, kept.NetNS, ":80", "kept")
	mustAsk(t, "", net.JoinHostPort(kept.Status.IPs[0], "80"), "kept")
	if interfaces, err := Stats(lost.NetNS); err != nil || len(interfaces) != 0 {
		t.Errorf("the lost pod still has %v, %v", interfaces, err)
	}
	if err := again.Detach(t.Context(), kept); err != nil {
		t.Error(err)
	}
}

func TestGCTellsPluginsWhichAttachmentsAreValid(t *testing.T) {
	n, bin := open(t, nil)
	log := filepath.Join(t.TempDir(), "log")
	installPlugin(t, bin, "scribe", "record "+log)
	writeConf(t, n, "10.conflist", "1.1.0", "scribed", `{"type":"scribe"}`)
	eventually(t, "the network", func() bool { return n.Status().Name == "scribed" })
	kept := attach(t, n, nil)
	if err := n.GC(t.Context(), []AttachRequest{kept}); err != nil {
		t.Fatal(err)
	}
	raw, _ := os.ReadFile(log)
	if !strings.Contains(string(raw), `"command":"GC"`) || !strings.Contains(string(raw), `\"cni.dev/valid-attachments\":[{\"containerID\":\"`+kept.ID) {
		t.Errorf("the plugin saw\n%s", raw)
	}
}

func TestAttachAfterACrashInTheMiddleStartsAfresh(t *testing.T) {
	n, _ := open(t, nil)
	req := attach(t, n, nil) // its outcome was never recorded
	status, err := n.Attach(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	if got := leases(t, n, n.config.Bridge); got != len(status.IPs) {
		t.Errorf("%d addresses are leased, want %d", got, len(status.IPs))
	}
}

func TestKilledDaemonLeavesNothingThatRecoveryDoesNotFind(t *testing.T) {
	n, bin := open(t, nil)
	installPlugin(t, bin, "slow", "delay 20ms")
	list := embeddedPlugins(t, n)
	writeConf(t, n, "10.conflist", "1.0.0", n.config.Bridge, list[0], `{"type":"slow"}`, list[1])
	becomes(t, n, n.config.Bridge)
	warm := attach(t, n, func(r *AttachRequest) { r.Ports = []Port{{HostPort: 21000, ContainerPort: 80}} })
	if err := errors.Join(n.Detach(t.Context(), warm), n.RemoveNamespaces(t.Context(), warm.ID)); err != nil {
		t.Fatal(err)
	}
	before := census(t, n)
	for round := range 12 {
		daemon := startDaemon(t, n.config)
		daemon.killAfter(t, round)
		again, err := New(t.Context(), n.config)
		if err != nil {
			t.Fatal(err)
		}
		pinned, err := again.Pinned()
		for _, id := range pinned {
			err = errors.Join(err, again.RemoveNamespaces(t.Context(), id))
		}
		if err := errors.Join(err, again.GC(t.Context(), nil), again.Close()); err != nil {
			t.Errorf("round %d: %v", round, err)
		}
		sameAs(t, n, before)
	}
	leftovers, _ := filepath.Glob(filepath.Join(n.config.CacheDir, "attachments", "*"))
	if len(leftovers) != 0 {
		t.Errorf("left: %v", leftovers)
	}
}
