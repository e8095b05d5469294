package stream

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/lifecycle"
	"github.com/vitrine-runtime/vitrine/pod"
)

func TestTokensExpireAndAreBounded(t *testing.T) {
	now := time.Unix(1000, 0)
	tokens := newTokens()
	tokens.now = func() time.Time { return now }
	first, err := tokens.issue(grant{verb: verbExec})
	if err != nil {
		t.Fatal(err)
	}
	for range maxTokens - 1 {
		if _, err := tokens.issue(grant{verb: verbExec}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := tokens.issue(grant{verb: verbExec}); !errors.Is(err, pod.ErrExhausted) {
		t.Fatalf("token %d: %v", maxTokens+1, err)
	}
	now = now.Add(tokenLife + time.Second)
	if _, ok := tokens.take(verbExec, first); ok {
		t.Error("an expired token was taken")
	}
	if _, err := tokens.issue(grant{verb: verbExec}); err != nil {
		t.Errorf("after all have expired: %v", err)
	}
}

func FuzzDecodeSizes(f *testing.F) {
	f.Add(`{"Width":80,"Height":24}{"Width":1,"Height":2}`)
	f.Add(`{"Width":70000}`)
	f.Add(`"` + strings.Repeat("x", 5000))
	f.Fuzz(func(t *testing.T, text string) { // property: it ends, and what it passes on stands in the text as JSON
		sizes := make(chan lifecycle.Size, len(text)+1)
		decodeSizes(context.Background(), strings.NewReader(text), sizes)
		decoder := json.NewDecoder(strings.NewReader(text))
		for size := range sizes {
			var want lifecycle.Size
			if err := decoder.Decode(&want); err != nil || size != want {
				t.Fatalf("%q: passed on %v, decoded %v, %v", text, size, want, err)
			}
		}
	})
}
