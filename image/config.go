package image

import (
	"fmt"
	"path"
	"strings"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Config is what an administrator decides about images.
type Config struct {
	// Root keeps images, layers and writable layers. Required, absolute, without any of
	// : , \ ", on a file system that overlay accepts as upper directory.
	Root string `toml:"root"`
	// RunRoot keeps what does not outlive a boot. Required, absolute.
	RunRoot string `toml:"run_root"`
	// StorageOptions are options of the overlay driver, for example
	// "overlay.mountopt=nodev". Empty: none.
	StorageOptions []string `toml:"storage_options"`
	// RegistriesConf is the registries.conf to read, together with the drop-ins of
	// the directory of the same name with ".d" behind. Empty: /etc/containers/registries.conf.
	// An absent file means no mirrors, no insecure registries, and docker.io for short names.
	RegistriesConf string `toml:"registries_conf"`
	// SignaturePolicy is the policy.json to obey. Empty: /etc/containers/policy.json,
	// and when that does not exist, every image is accepted. A path named here must exist.
	SignaturePolicy string `toml:"signature_policy"`
	// SignaturePolicyDir may hold NAMESPACE.json, which is obeyed instead of
	// SignaturePolicy for pods of that namespace. Empty: none.
	SignaturePolicyDir string `toml:"signature_policy_dir"`
	// AuthFile has credentials (as written by "podman login") for pulls that bring
	// none. Empty: none; the files of root's home directory are not consulted.
	AuthFile string `toml:"auth_file"`
	// CertsDir has a directory per registry with CA and client certificates. Empty:
	// /etc/containers/certs.d and /etc/docker/certs.d.
	CertsDir string `toml:"certs_dir"`
	// Pinned images are never reported as removable: names, "prefix*" or "*word*".
	Pinned []string `toml:"pinned"`
	// MaxPulls bounds the pulls at work at once; the others wait. 0: 8.
	MaxPulls int `toml:"max_pulls"`
	// MaxLayers bounds the layers that one pull fetches at once. 0: 6.
	MaxLayers int `toml:"max_layers"`
	// StallTimeout ends a pull that has made no progress for so long. 0: 1 minute;
	// negative: never.
	StallTimeout time.Duration `toml:"stall_timeout"`
	// MaxLayerBytes bounds the uncompressed size of one layer, in bytes. 0: 128 GiB.
	MaxLayerBytes int64 `toml:"max_layer_bytes"`
	// MaxLayerEntries bounds the files of one layer. 0: 4 million.
	MaxLayerEntries int64 `toml:"max_layer_entries"`
	// PartialPulls fetches of a layer that is zstd:chunked only the files that no stored
	// layer has. Such an image is then unpacked by containers/image, which makes its first
	// pull slower and an update that changes little quicker. Images of other kinds are
	// not concerned.
	PartialPulls bool `toml:"partial_pulls"`
	// PlainPull turns off the concurrent unpacking of layers and leaves everything to
	// containers/image. For comparison and as a way out.
	PlainPull bool `toml:"plain_pull"`
}

const (
	defaultRegistriesConf = "/etc/containers/registries.conf"
	defaultPolicy         = "/etc/containers/policy.json"
)

// Effective is the configuration with its zero values replaced by what they mean; one
// that cannot work is returned as it is.
func (c Config) Effective() Config {
	if complete, err := c.complete(); err == nil {
		return complete
	}
	return c
}

// complete returns the configuration with its zero values replaced, or why it cannot be.
func (c Config) complete() (Config, error) {
	if !path.IsAbs(c.Root) || !path.IsAbs(c.RunRoot) {
		return c, fmt.Errorf("%w: image root %q and run root %q must be absolute paths", pod.ErrInvalid, c.Root, c.RunRoot)
	}
	if strings.ContainsAny(c.Root, ":,\\\"") {
		return c, fmt.Errorf("%w: image root %q has a character that mount options cannot hold", pod.ErrInvalid, c.Root)
	}
	c.Root, c.RunRoot = path.Clean(c.Root), path.Clean(c.RunRoot)
	if c.RegistriesConf == "" {
		c.RegistriesConf = defaultRegistriesConf
	}
	if c.MaxPulls <= 0 {
		c.MaxPulls = 8
	}
	if c.MaxLayers <= 0 {
		c.MaxLayers = 6
	}
	if c.StallTimeout == 0 {
		c.StallTimeout = time.Minute
	}
	if c.MaxLayerBytes <= 0 {
		c.MaxLayerBytes = 128 << 30
	}
	if c.MaxLayerEntries <= 0 {
		c.MaxLayerEntries = 4 << 20
	}
	for _, p := range c.Pinned {
		if strings.Trim(p, "*") == "" {
			return c, fmt.Errorf("%w: pinned image pattern %q would match everything", pod.ErrInvalid, p)
		}
	}
	return c, nil
}

// pinned reports whether a pattern matches one of the image's names.
func (c Config) pinned(names []string) bool {
	for _, pattern := range c.Pinned {
		for _, name := range names {
			if matchPinned(pattern, name) {
				return true
			}
		}
	}
	return false
}

func matchPinned(pattern, name string) bool {
	word := strings.Trim(pattern, "*")
	front, back := strings.HasPrefix(pattern, "*"), strings.HasSuffix(pattern, "*")
	switch {
	case front && back:
		return strings.Contains(name, word)
	case back:
		return strings.HasPrefix(name, word)
	case front:
		return strings.HasSuffix(name, word)
	}
	return name == word
}
