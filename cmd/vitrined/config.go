package main

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/BurntSushi/toml"
	"github.com/spf13/pflag"

	"github.com/vitrine-runtime/vitrine/cgroup"
	"github.com/vitrine-runtime/vitrine/cri"
	"github.com/vitrine-runtime/vitrine/ebpf"
	"github.com/vitrine-runtime/vitrine/image"
	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/lifecycle/nri"
	"github.com/vitrine-runtime/vitrine/network"
	"github.com/vitrine-runtime/vitrine/telemetry"
)

// Config is the rooms' configurations side by side. The file holds it as TOML; the
// drop-ins of the directory of the same name with ".d" behind are laid over it in
// the order of their names, and flags over those.
type Config struct {
	// Root keeps what outlives a boot: images, leases. Empty: /var/lib/vitrine.
	Root string `toml:"root"`
	// State keeps what does not: records, sockets, namespaces. Empty: /run/vitrine.
	State string `toml:"state"`
	// Socket is where kubelet connects. Empty: STATE/vitrine.sock.
	Socket string `toml:"socket"`
	// SocketGroup is the numeric group that may connect beside root. 0: root's.
	SocketGroup int `toml:"socket_group"`
	// MetricsListen is host:port or unix:/path for /metrics. Empty: not served.
	MetricsListen string `toml:"metrics_listen"`
	// MetricsCertFile and MetricsKeyFile let /metrics be served over TLS only; PEM, both
	// or none, read anew for each connection, so that they may be replaced. Empty:
	// without TLS.
	MetricsCertFile string `toml:"metrics_cert_file"`
	MetricsKeyFile  string `toml:"metrics_key_file"`
	// MetricsTokenFile holds the token that a scraper must send ("Authorization: Bearer
	// TOKEN"), read anew for each request. Empty: none is asked for.
	MetricsTokenFile string `toml:"metrics_token_file"`
	// PageListen is where a page for browsers on this machine is served: a loopback
	// address with a port, or unix:/path. Empty: not served.
	PageListen string `toml:"page_listen"`
	// NRISocket is where NRI plugins connect. Empty: plugins are not served.
	NRISocket string `toml:"nri_socket"`

	CRI       cri.Options      `toml:"cri"`
	Runtime   lifecycle.Config `toml:"runtime"`
	Image     image.Config     `toml:"image"`
	Network   network.Config   `toml:"network"`
	Cgroup    cgroup.Config    `toml:"cgroup"`
	NRI       nri.Config       `toml:"nri"`
	EBPF      ebpf.Config      `toml:"ebpf"`
	Telemetry telemetry.Config `toml:"telemetry"`

	sources map[string]string // key → where its value comes from
}

// defaultConfigFile is read when it exists; a file named by --config must exist.
const defaultConfigFile = "/etc/vitrine/vitrined.toml"

// flagSet are the command line's values; empty means not given.
type flagSet struct {
	config string
	values map[string]*string
}

// flagKeys maps each flag to the key of the file that it overrides.
var flagKeys = []struct{ flag, key, help string }{
	{"root", "root", "directory for what outlives a boot"},
	{"state", "state", "directory for what does not; on tmpfs"},
	{"socket", "socket", "unix socket of the container runtime interface"},
	{"registries-conf", "image.registries_conf", "registries.conf with mirrors and insecure registries"},
	{"signature-policy", "image.signature_policy", "policy.json that images must satisfy"},
	{"cni-conf-dir", "network.conf_dir", "directory of CNI configurations"},
	{"cni-bin-dir", "network.bin_dirs", "directories of CNI plugins, separated by colons"},
	{"metrics-listen", "metrics_listen", "host:port or unix:/path for /metrics"},
	{"nri-socket", "nri_socket", "unix socket for NRI plugins"},
	{"cgroup-driver", "cgroup.driver", "cgroupfs or systemd"},
	{"log-level", "telemetry.log_level", "debug, info, warn or error"},
}

func (f *flagSet) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.config, "config", "", "configuration file (default "+defaultConfigFile+")")
	f.values = map[string]*string{}
	for _, k := range flagKeys {
		f.values[k.key] = flags.String(k.flag, "", k.help)
	}
}

// loadConfig reads file, drop-ins and flags. A key that no room knows is an error
// naming the file: a misspelt setting must not be silently without effect. So is a value
// that could work on no host, which would else be told by the first container.
func loadConfig(flags flagSet) (*Config, error) {
	config := &Config{sources: map[string]string{}}
	file := cmp.Or(flags.config, defaultConfigFile)
	if err := config.read(file); err != nil && (flags.config != "" || !errors.Is(err, fs.ErrNotExist)) {
		return nil, err
	}
	dropIns, err := filepath.Glob(filepath.Join(file+".d", "*.toml"))
	if err != nil {
		return nil, err
	}
	slices.Sort(dropIns)
	for _, path := range dropIns {
		if err := config.read(path); err != nil {
			return nil, err
		}
	}
	for _, k := range flagKeys {
		value := *flags.values[k.key]
		if value == "" {
			continue
		}
		if err := config.set(k.key, value); err != nil {
			return nil, fmt.Errorf("--%s: %w", k.flag, err)
		}
		config.sources[k.key] = "--" + k.flag
	}
	config.complete()
	if err := config.Runtime.Check(); err != nil {
		return nil, fmt.Errorf("configuration: runtime: %w", err)
	}
	return config, nil
}

func (c *Config) read(path string) error {
	raw, err := os.ReadFile(path)
	if err != nil {
		return fmt.Errorf("read configuration: %w", err)
	}
	meta, err := toml.Decode(string(raw), c)
	if err != nil {
		return fmt.Errorf("read configuration %s: %w", path, err)
	}
	if unknown := meta.Undecoded(); len(unknown) > 0 {
		return fmt.Errorf("read configuration %s: unknown key %s", path, unknown[0])
	}
	for _, key := range meta.Keys() {
		c.sources[key.String()] = path
	}
	return nil
}

// set changes the string or list that key names.
func (c *Config) set(key, value string) error {
	field, ok := fieldOf(c, key)
	if !ok {
		return fmt.Errorf("no setting %s", key)
	}
	switch field.Kind() {
	case reflect.String:
		field.SetString(value)
	case reflect.Slice:
		field.Set(reflect.ValueOf(filepath.SplitList(value)))
	default:
		return fmt.Errorf("setting %s cannot be a flag", key)
	}
	return nil
}

// complete fills what follows from root and state, so that an instance with its
// own two directories shares nothing with another.
func (c *Config) complete() {
	c.Root, c.State = cmp.Or(c.Root, "/var/lib/vitrine"), cmp.Or(c.State, "/run/vitrine")
	c.Root, c.State = absolute(c.Root), absolute(c.State)
	c.Socket = cmp.Or(c.Socket, filepath.Join(c.State, "vitrine.sock"))
	c.Image.Root = cmp.Or(c.Image.Root, filepath.Join(c.Root, "storage"))
	c.Image.RunRoot = cmp.Or(c.Image.RunRoot, filepath.Join(c.State, "storage"))
	c.Network.Dir = cmp.Or(c.Network.Dir, filepath.Join(c.State, "netns"))
	c.Network.CacheDir = cmp.Or(c.Network.CacheDir, filepath.Join(c.Root, "network"))
	c.EBPF.PinDir = filepath.Join(c.State, "bpffs")
	c.Runtime.StateDir = c.State
	c.NRI.Socket = c.NRISocket
	c.Runtime.TelemetrySocket = filepath.Join(c.State, "otlp.sock")
	c.Runtime.MonitorPath = cmp.Or(c.Runtime.MonitorPath, beside("vitrine-monitor"))
	c.Runtime.LaunchPath = cmp.Or(c.Runtime.LaunchPath, beside("vitrine-launch"))
	c.Runtime.ShimLaunchPath = cmp.Or(c.Runtime.ShimLaunchPath, beside("vitrine-shim"))
	if c.Telemetry.SpoolDir == "" {
		c.Telemetry.SpoolDir = filepath.Join(c.Root, "telemetry")
	}
	c.Telemetry.HistoryDir = cmp.Or(c.Telemetry.HistoryDir, filepath.Join(c.Root, "history"))
	c.Telemetry.Version, c.Telemetry.Revision = version, revision
}

// beside is the path of a binary that is installed next to this one.
func beside(name string) string {
	self, err := os.Executable()
	if err != nil {
		return name
	}
	return filepath.Join(filepath.Dir(self), name)
}

func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}

// setting is one effective value and where it comes from.
type setting struct {
	Key    string `json:"key"`
	Value  any    `json:"value"`
	Source string `json:"source"`
}

// settings lists every key with the value in force, in the order of the file.
func (c *Config) settings() []setting {
	effective := *c
	effective.Runtime, effective.Image, effective.Network = c.Runtime.Effective(), c.Image.Effective(), c.Network.Effective()
	effective.NRI = c.NRI.Effective()
	effective.Telemetry.LogLevel = cmp.Or(c.Telemetry.LogLevel, "info")
	effective.Telemetry.LogFormat = cmp.Or(c.Telemetry.LogFormat, "text")
	if cgroups, err := cgroup.New(c.Cgroup); err == nil {
		effective.Cgroup.Driver = cgroups.Driver()
		cgroups.Close()
	}
	var all []setting
	walk(reflect.ValueOf(&effective).Elem(), nil, func(key string, value reflect.Value) {
		all = append(all, setting{Key: key, Value: value.Interface(), Source: c.source(key)})
	})
	return all
}

func (c *Config) source(key string) string {
	if from, ok := c.sources[key]; ok {
		return from
	}
	for part, from := range c.sources { // a key below a map's, for example a handler's path
		if strings.HasPrefix(part, key+".") {
			return from
		}
	}
	return "default"
}

// walk visits every field that the file can hold.
func walk(v reflect.Value, path []string, visit func(string, reflect.Value)) {
	for i := range v.NumField() {
		name, ok := keyName(v.Type().Field(i))
		if !ok {
			continue
		}
		here := append(slices.Clone(path), name)
		if field := v.Field(i); field.Kind() == reflect.Struct && !field.Type().Implements(textMarshaler) {
			walk(field, here, visit)
		} else {
			visit(strings.Join(here, "."), field)
		}
	}
}

var textMarshaler = reflect.TypeFor[interface{ MarshalText() ([]byte, error) }]()

// fieldOf is the field that key names.
func fieldOf(c *Config, key string) (reflect.Value, bool) {
	return lookup(reflect.ValueOf(c).Elem(), strings.Split(key, "."))
}

func lookup(v reflect.Value, path []string) (reflect.Value, bool) {
	for i := range v.NumField() {
		name, ok := keyName(v.Type().Field(i))
		if !ok || name != path[0] {
			continue
		}
		if len(path) == 1 {
			return v.Field(i), true
		}
		return lookup(v.Field(i), path[1:])
	}
	return reflect.Value{}, false
}

func keyName(f reflect.StructField) (string, bool) {
	name, _, _ := strings.Cut(f.Tag.Get("toml"), ",")
	return name, f.IsExported() && name != "-" && name != ""
}

func printSettings(w io.Writer, settings []setting) error {
	table := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(table, "KEY\tVALUE\tSOURCE")
	for _, s := range settings {
		fmt.Fprintf(table, "%s\t%v\t%s\n", s.Key, s.Value, s.Source)
	}
	return table.Flush()
}
