package network

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Where things are when Config does not say.
const (
	defaultDir      = "/run/vitrine/netns"
	defaultCacheDir = "/var/lib/vitrine/network"
	defaultConfDir  = "/etc/cni/net.d"
	defaultBridge   = "vitrine0"

	// defaultPluginTimeout bounds one execution of a plugin. Cloud plugins that ask
	// an API for an address take tens of seconds; kubelet itself gives up after 120.
	defaultPluginTimeout = 90 * time.Second
)

// Config is what the daemon's configuration says about networks. The zero value works.
type Config struct {
	// Dir holds the pinned namespaces. It must be on a file system that does not
	// outlive a boot. Empty means /run/vitrine/netns.
	Dir string `toml:"dir"`
	// CacheDir holds what must survive a boot: attachments, cached results, leases.
	// Empty means /var/lib/vitrine/network.
	CacheDir string `toml:"cache_dir"`
	// ConfDir is searched for *.conflist, *.conf and *.json; the first good one in
	// lexical order is the network of every pod. It is watched, and need not exist
	// yet. Empty means /etc/cni/net.d.
	ConfDir string `toml:"conf_dir"`
	// BinDirs are searched for plugins in this order. Empty means /opt/cni/bin,
	// /usr/lib/cni, /usr/libexec/cni and cni/ beside the daemon's binary.
	BinDirs []string `toml:"bin_dirs"`
	// NoDefault switches the embedded default network off: without a file in ConfDir
	// the node is then not ready, as other runtimes have it.
	NoDefault bool `toml:"no_default"`
	// Bridge is the embedded default's bridge and its network's name, at most 15
	// bytes. Empty means vitrine0, or a name derived from Dir when that is not the
	// usual one, so that several instances live side by side.
	Bridge string `toml:"bridge"`
	// Subnets are the embedded default's address ranges, at most one per family.
	// Empty means one IPv4 /16 below 10.0.0.0/8 and one IPv6 unique local /64, both
	// derived from Bridge and moved away from the host's routes.
	Subnets []netip.Prefix `toml:"subnets"`
	// Firewall adds the firewall plugin to the embedded default: per-pod rules that
	// let traffic through hosts whose FORWARD policy is DROP.
	Firewall bool `toml:"firewall"`
	// PluginTimeout bounds one execution of a plugin; the caller's deadline applies
	// too. Zero means 90 s.
	PluginTimeout time.Duration `toml:"plugin_timeout"`
	// Sysctls are set in every pod's namespaces unless the pod asks for another
	// value; those whose namespace the pod does not own are skipped.
	Sysctls map[string]string `toml:"sysctls"`
}

// Effective is the configuration with its zero fields replaced by what they mean; one
// that cannot work is returned as it is.
func (c Config) Effective() Config {
	if complete, err := c.withDefaults(); err == nil {
		return complete
	}
	return c
}

// withDefaults fills the zero fields and refuses what cannot work.
func (c Config) withDefaults() (Config, error) {
	fill(&c.Dir, defaultDir)
	fill(&c.CacheDir, defaultCacheDir)
	fill(&c.ConfDir, defaultConfDir)
	for _, dir := range []*string{&c.Dir, &c.CacheDir, &c.ConfDir} {
		abs, err := filepath.Abs(*dir)
		if err != nil {
			return c, fmt.Errorf("network directory %s: %w", *dir, err)
		}
		*dir = abs
	}
	if len(c.BinDirs) == 0 {
		c.BinDirs = []string{"/opt/cni/bin", "/usr/lib/cni", "/usr/libexec/cni"}
		if self, err := os.Executable(); err == nil {
			c.BinDirs = append(c.BinDirs, filepath.Join(filepath.Dir(self), "cni"))
		}
	}
	if c.Bridge == "" {
		c.Bridge = bridgeFor(c.Dir)
	}
	if !validInterface.MatchString(c.Bridge) {
		return c, fmt.Errorf("%w: bridge name %q: letters, digits, dot, dash and underscore, at most 15, are allowed", pod.ErrInvalid, c.Bridge)
	}
	families := map[bool]bool{}
	for _, s := range c.Subnets {
		if !s.IsValid() || s != s.Masked() || families[s.Addr().Is4()] {
			return c, fmt.Errorf("%w: subnets %v: one network address per family is expected", pod.ErrInvalid, c.Subnets)
		}
		families[s.Addr().Is4()] = true
	}
	if c.PluginTimeout <= 0 {
		c.PluginTimeout = defaultPluginTimeout
	}
	for name, value := range c.Sysctls {
		if err := checkSysctl(name, value); err != nil {
			return c, err
		}
	}
	return c, nil
}

// validInterface is what both the kernel (dev_valid_name) and nft's lexer take.
var validInterface = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_.-]{0,14}$`)

// bridgeFor names the bridge of the instance whose pins are in dir.
func bridgeFor(dir string) string {
	if dir == defaultDir {
		return defaultBridge
	}
	sum := sha256.Sum256([]byte(dir))
	return "vit-" + hex.EncodeToString(sum[:])[:8]
}

func fill(field *string, value string) {
	if *field == "" {
		*field = value
	}
}
