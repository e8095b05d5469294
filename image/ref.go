package image

import (
	"fmt"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/sysregistriesv2"
	"go.podman.io/image/v5/types"

	"github.com/vitrine-runtime/vitrine/pod"
)

// maxRef bounds a reference, in bytes. Repository names end at 255, tags at 128.
const maxRef = 1024

// candidates turns what a pod's author wrote into fully qualified names in the order
// in which they are tried: one name, or for a short name the alias or the search
// registries of registries.conf. Without a tag and a digest the tag is "latest".
// What cannot be a reference is pod.ErrInvalid.
func candidates(sys *types.SystemContext, text string) ([]reference.Named, error) {
	if len(text) > maxRef {
		return nil, fmt.Errorf("%w: image reference of %d bytes, at most %d are accepted", pod.ErrInvalid, len(text), maxRef)
	}
	if rest, found := strings.CutPrefix(text, "docker://"); found {
		text = rest
	}
	named, err := reference.ParseNormalizedNamed(text)
	if err != nil {
		return nil, fmt.Errorf("%w: image reference %q: %s", pod.ErrInvalid, text, err)
	}
	if !isShort(text) {
		named, err = complete(named)
		return []reference.Named{named}, err
	}
	name, suffix := splitShort(text)
	if alias, _, err := sysregistriesv2.ResolveShortNameAlias(sys, name); err == nil && alias != nil {
		named, err := reference.ParseNormalizedNamed(alias.String() + suffix)
		if err != nil {
			return nil, fmt.Errorf("%w: alias of short name %q: %s", pod.ErrInvalid, text, err)
		}
		named, err = complete(named)
		return []reference.Named{named}, err
	}
	registries, err := sysregistriesv2.UnqualifiedSearchRegistries(sys)
	if err != nil {
		return nil, fmt.Errorf("%w: read registries.conf: %s", pod.ErrInvalid, err)
	}
	if len(registries) == 0 {
		named, err = complete(named) // docker.io, by the reference's own normal form
		return []reference.Named{named}, err
	}
	mode, err := sysregistriesv2.GetShortNameMode(sys)
	if err == nil && mode == types.ShortNameModeEnforcing && len(registries) > 1 {
		return nil, fmt.Errorf("%w: short name %q could mean %d registries and short-name-mode is enforcing; write the registry", pod.ErrInvalid, text, len(registries))
	}
	var all []reference.Named
	for _, registry := range registries {
		n := name
		if registry == "docker.io" && !strings.Contains(n, "/") {
			n = "library/" + n
		}
		named, err := reference.ParseNormalizedNamed(registry + "/" + n + suffix)
		if err != nil {
			return nil, fmt.Errorf("%w: image reference %q at registry %s: %s", pod.ErrInvalid, text, registry, err)
		}
		if named, err = complete(named); err != nil {
			return nil, err
		}
		all = append(all, named)
	}
	return all, nil
}

// complete adds the tag latest where there is neither tag nor digest, and drops the
// tag where there is a digest: the digest alone decides what is meant.
func complete(named reference.Named) (reference.Named, error) {
	if canonical, ok := named.(reference.Canonical); ok {
		if err := canonical.Digest().Validate(); err != nil {
			return nil, fmt.Errorf("%w: image reference %q: %s", pod.ErrInvalid, named, err)
		}
		c, err := reference.WithDigest(reference.TrimNamed(named), canonical.Digest())
		if err != nil {
			return nil, fmt.Errorf("%w: image reference %q: %s", pod.ErrInvalid, named, err)
		}
		return c, nil
	}
	return reference.TagNameOnly(named), nil
}

// registriesConf notices edits of registries.conf and its drop-ins: containers/image
// reads them once in the life of a process.
type registriesConf struct {
	mu   sync.Mutex // guards seen
	seen [2]stamp
}

// reread makes the library read again what has changed since the last call.
func (r *registriesConf) reread(path string) {
	file, err1 := stampOf(path)
	dropIns, err2 := stampOf(path + ".d")
	now := [2]stamp{file, dropIns}
	r.mu.Lock()
	defer r.mu.Unlock()
	if err1 != nil || err2 != nil || now != r.seen {
		sysregistriesv2.InvalidateCache()
		r.seen = now
	}
}

// isShort reports whether the first element of the name is no registry.
func isShort(text string) bool {
	first, _, found := strings.Cut(text, "/")
	return !found || !strings.ContainsAny(first, ".:") && first != "localhost"
}

// splitShort cuts "name:tag@digest" into "name" and the rest.
func splitShort(text string) (name, suffix string) {
	end := len(text)
	if i := strings.IndexByte(text, '@'); i >= 0 {
		end = i
	}
	if i := strings.LastIndexByte(text[:end], ':'); i > strings.LastIndexByte(text[:end], '/') {
		end = i
	}
	return text[:end], text[end:]
}

// imageID returns the 64 digits when text is an image ID, with or without algorithm.
func imageID(text string) (string, bool) {
	d := text
	if !strings.HasPrefix(d, "sha256:") {
		d = "sha256:" + d
	}
	if parsed, err := digest.Parse(d); err == nil {
		return parsed.Encoded(), true
	}
	return "", false
}
