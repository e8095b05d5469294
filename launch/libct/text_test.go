//go:build cgo && seccomp

package libct

import (
	"crypto/sha256"
	"testing"

	"github.com/seccomp/libseccomp-golang"
)

func FuzzCacheFile(f *testing.F) { // property: what is read is what was written, anything else an error
	offer := seccomp.Offer{Key: sha256.Sum256(nil), Program: make([]byte, 16)}.SyscallName()
	f.Add(formatOffer(offer))
	f.Add([]byte(cacheHeader))
	f.Fuzz(func(t *testing.T, raw []byte) {
		text, err := parseOffer(raw)
		if err == nil && string(formatOffer(text)) != string(raw) {
			t.Fatalf("%q was read as %q", raw, text)
		}
		if o, err := seccomp.ParseOffer(text); err == nil && o.SyscallName() == "" {
			t.Fatal("an offer without a name")
		}
	})
}
