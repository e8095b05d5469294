package network

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

const plainBridge = `{"type":"bridge","ipam":{"type":"host-local"}}`

// becomes waits until the active network is the one called name.
func becomes(t *testing.T, n *Network, name string) {
	t.Helper()
	eventually(t, "network "+name+" (now "+n.Status().Name+")", func() bool { return n.Status().Name == name })
}

func TestConfigurationIsFollowedWhileItChanges(t *testing.T) {
	n, _ := open(t, nil)
	dir := n.config.ConfDir
	becomes(t, n, n.config.Bridge) // no directory yet: the embedded default
	writeConf(t, n, "20-b.conflist", "1.0.0", "second", plainBridge)
	becomes(t, n, "second") // the directory came into being
	writeConf(t, n, "10-a.conflist", "1.0.0", "first", plainBridge)
	becomes(t, n, "first") // lexical order
	writeConf(t, n, "30-c.conflist", "1.0.0", "third", plainBridge)
	if err := os.Remove(filepath.Join(dir, "10-a.conflist")); err != nil {
		t.Fatal(err)
	}
	becomes(t, n, "second")
	if err := os.Rename(filepath.Join(dir, "30-c.conflist"), filepath.Join(dir, "00-c.conflist")); err != nil {
		t.Fatal(err)
	}
	becomes(t, n, "third")
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	becomes(t, n, n.config.Bridge)
	writeConf(t, n, "10-a.conflist", "1.0.0", "again", plainBridge)
	becomes(t, n, "again") // the directory came back
}

func TestAMountedConfigMapIsFollowed(t *testing.T) {
	n, _ := open(t, nil)
	dir := n.config.ConfDir
	put := func(generation, network string) error {
		return errors.Join(
			os.MkdirAll(filepath.Join(dir, generation), 0o755),
			os.WriteFile(filepath.Join(dir, generation, "a.conflist"), []byte(`{"cniVersion":"1.0.0","name":"`+network+`","plugins":[`+plainBridge+`]}`), 0o644),
			os.Symlink(generation, filepath.Join(dir, "..tmp")),
			os.Rename(filepath.Join(dir, "..tmp"), filepath.Join(dir, "..data")))
	}
	if err := errors.Join(put("..1", "one"), os.Symlink("..data/a.conflist", filepath.Join(dir, "a.conflist"))); err != nil {
		t.Fatal(err)
	}
	becomes(t, n, "one")
	if err := put("..2", "two"); err != nil {
		t.Fatal(err)
	}
	becomes(t, n, "two")
}

func TestABadFileKeepsTheGoodOnesAndIsReported(t *testing.T) {
	n, _ := open(t, nil)
	writeConf(t, n, "10-a.conflist", "1.0.0", "first", plainBridge)
	writeConf(t, n, "20-b.conflist", "1.0.0", "second", plainBridge)
	becomes(t, n, "first")
	first := filepath.Join(n.config.ConfDir, "10-a.conflist")
	if err := os.WriteFile(first, []byte(`{"cniVersion":"1.0.0","name":"fir`), 0o644); err != nil { // a writer was cut short
		t.Fatal(err)
	}
	eventually(t, "the report", func() bool { return strings.Contains(n.Status().Bad[first], "JSON") })
	if s := n.Status(); s.Name != "first" || s.NotReady != "" {
		t.Errorf("the good content is not in force: %+v", s)
	}
	if err := os.Remove(first); err != nil {
		t.Fatal(err)
	}
	becomes(t, n, "second")
	second := filepath.Join(n.config.ConfDir, "20-b.conflist")
	if err := os.Remove(second); err != nil {
		t.Fatal(err)
	}
	becomes(t, n, n.config.Bridge)
	if err := os.WriteFile(second, []byte("network: yaml"), 0o644); err != nil { // bad from the first
		t.Fatal(err)
	}
	eventually(t, "Ready's refusal to fall back to the embedded default", func() bool {
		err := n.Ready()
		return errors.Is(err, pod.ErrUnavailable) && strings.Contains(err.Error(), second)
	})
}

func TestWithoutConfigurationAndDefaultTheNodeIsNotReady(t *testing.T) {
	n, _ := open(t, func(c *Config) { c.NoDefault = true })
	if err := n.Ready(); !errors.Is(err, pod.ErrUnavailable) || !strings.Contains(err.Error(), n.config.ConfDir) {
		t.Errorf("Ready: %v", err)
	}
	if _, err := n.Attach(t.Context(), sandbox(t, n)); !errors.Is(err, pod.ErrUnavailable) {
		t.Errorf("Attach: %v", err)
	}
	writeConf(t, n, "10.conflist", "1.0.0", "late", plainBridge)
	eventually(t, "Ready", func() bool { return n.Ready() == nil })
}

func TestAllFormsOfConfigurationAreRead(t *testing.T) {
	dir := t.TempDir()
	for name, c := range map[string]struct{ content, network, version, plugins, problem string }{
		"list.conflist":    {`{"cniVersion":"1.0.0","name":"l","plugins":[{"type":"a"},{"type":"b"}]}`, "l", "1.0.0", "a b", ""},
		"single.conf":      {`{"cniVersion":"0.3.1","name":"s","type":"a"}`, "s", "0.3.1", "a", ""},
		"single.json":      {`{"name":"j","type":"a"}`, "j", "", "a", ""},
		"list.conf":        {`{"cniVersion":"0.4.0","name":"c","plugins":[{"type":"a"}]}`, "c", "0.4.0", "a", ""},
		"versions.json":    {`{"cniVersion":"0.4.0","cniVersions":["1.0.0","1.1.0","9.0.0"],"name":"v","plugins":[{"type":"a"}]}`, "v", "1.1.0", "a", ""},
		"dropin.conflist":  {`{"cniVersion":"1.1.0","name":"drop","plugins":[{"type":"a"}]}`, "drop", "1.1.0", "a y z", ""},
		"newer.conflist":   {`{"cniVersion":"2.0.0","name":"n","plugins":[{"type":"a"}]}`, "", "", "", "newer than"},
		"empty.conflist":   {``, "", "", "", "JSON"},
		"noname.conflist":  {`{"cniVersion":"1.0.0","plugins":[{"type":"a"}]}`, "", "", "", "no name"},
		"badname.conflist": {`{"cniVersion":"1.0.0","name":"../x","plugins":[{"type":"a"}]}`, "", "", "", "name"},
		"notype.conflist":  {`{"cniVersion":"1.0.0","name":"x","plugins":[{"bridge":"a"}]}`, "", "", "", "type"},
		"none.conflist":    {`{"cniVersion":"1.0.0","name":"x","plugins":[]}`, "", "", "", "no plugins"},
		"huge.conflist":    {`{"name":"` + strings.Repeat("x", maxConfSize) + `"}`, "", "", "", "at most 1048576"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, []byte(c.content), 0o644); err != nil {
				t.Fatal(err)
			}
			if name == "dropin.conflist" {
				sub := filepath.Join(dir, "drop")
				os.Mkdir(sub, 0o755)
				os.WriteFile(filepath.Join(sub, "1.conf"), []byte(`{"type":"y"}`), 0o644)
				os.WriteFile(filepath.Join(sub, "2.conf"), []byte(`{"type":"z"}`), 0o644)
			}
			list, err := readConflist(path)
			if c.problem != "" {
				if err == nil || !strings.Contains(err.Error(), c.problem) {
					t.Errorf("got %v, want %q", err, c.problem)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			again, err := parseConflist(list.raw) // as an attachment remembers it
			if err != nil {
				t.Fatal(err)
			}
			for _, l := range []*conflist{list, again} {
				var types []string
				for _, p := range l.Plugins {
					types = append(types, p.Network.Type)
				}
				if l.Name != c.network || l.CNIVersion != c.version || strings.Join(types, " ") != c.plugins {
					t.Errorf("got %s %s %v", l.Name, l.CNIVersion, types)
				}
			}
		})
	}
}

// Whatever the bytes, parsing ends without a panic, and what is accepted can be
// parsed again from what an attachment remembers.
func FuzzParseConflist(f *testing.F) {
	f.Add([]byte(`{"cniVersion":"1.0.0","name":"l","plugins":[{"type":"a","ipam":{"type":"b"}}]}`))
	f.Add([]byte(`{"cniVersion":"1.0.0","cniVersions":[1],"name":"l","type":"a"}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		list, err := parseConflist(raw)
		if err != nil {
			return
		}
		again, err := parseConflist(list.raw)
		if err != nil || again.Name != list.Name || len(again.Plugins) != len(list.Plugins) {
			t.Errorf("%q: %v", raw, err)
		}
	})
}

func TestStatusOfPluginsDecidesReadiness(t *testing.T) {
	for _, c := range []struct {
		name, version, behaviour, want string
	}{
		{"good", "1.1.0", "delay 0s", ""},
		{"unavailable", "1.1.0", "status 50", "status says 50"},
		{"limited", "1.1.0", "status 51", "status says 51"},
		{"unknowing", "1.1.0", "status 4", ""},
		{"old", "1.1.0", "status 1", ""},
		{"below110", "1.0.0", "status 50", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			n, bin := open(t, nil)
			installPlugin(t, bin, c.name, c.behaviour)
			writeConf(t, n, "10.conflist", c.version, "net-"+c.name, `{"type":"`+c.name+`"}`)
			becomes(t, n, "net-"+c.name)
			err := n.Ready()
			if (c.want == "") != (err == nil) || (err != nil && (!errors.Is(err, pod.ErrUnavailable) || !strings.Contains(err.Error(), c.want))) {
				t.Errorf("Ready: %v, want %q", err, c.want)
			}
		})
	}
}

func TestReadyAnswersWhileStatusHangs(t *testing.T) {
	n, bin := open(t, nil)
	installPlugin(t, bin, "sleepy", "status-delay 8s")
	writeConf(t, n, "10.conflist", "1.1.0", "sleepynet", `{"type":"sleepy"}`)
	eventually(t, "the network", func() bool { list, err := n.active(t.Context()); return err == nil && list.Name == "sleepynet" })
	began := time.Now()
	if err := n.Ready(); err == nil || !strings.Contains(err.Error(), "not answered STATUS") {
		t.Errorf("Ready: %v", err)
	}
	if took := time.Since(began); took > statusFirst+time.Second {
		t.Errorf("Ready took %s", took)
	}
}

func TestConfigurationIsReadOnDemandWithoutAWatch(t *testing.T) {
	d := &confDir{dir: t.TempDir()} // never watched
	if files, err := d.snapshot(t.Context()); err != nil || len(files) != 0 {
		t.Fatal(files, err)
	}
	if err := os.WriteFile(filepath.Join(d.dir, "1.conf"), []byte(`{"name":"s","type":"a"}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if files, err := d.snapshot(t.Context()); err != nil || len(files) != 1 || files[0].list.Name != "s" {
		t.Error(files, err)
	}
}
