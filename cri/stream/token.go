package stream

import (
	"crypto/rand"
	"fmt"
	"sync"
	"time"

	"go.opentelemetry.io/otel/trace"

	"github.com/vitrine-runtime/vitrine/pod"
)

const (
	// tokenLife is how long a URL stays valid without being used.
	tokenLife = time.Minute
	// maxTokens bounds the URLs that were handed out and not yet used.
	maxTokens = 1000
)

// verb is what a token allows; it is also the first element of the URL's path.
type verb string

const (
	verbExec        verb = "exec"
	verbAttach      verb = "attach"
	verbPortForward verb = "portforward"
)

// grant is one permission to open a session.
type grant struct {
	verb verb
	// request is the CRI request that the permission answers.
	request any
	// span is the call that gave the permission; the session's span is its child.
	span trace.Span
	// expires is when the permission ends.
	expires time.Time
}

// tokens are the grants that were not used yet.
type tokens struct {
	mu     sync.Mutex // guards grants
	grants map[string]grant
	now    func() time.Time
}

func newTokens() *tokens { return &tokens{grants: map[string]grant{}, now: time.Now} }

// issue keeps g and returns the token that fetches it. It fails with ErrExhausted
// when too many are outstanding.
func (t *tokens) issue(g grant) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	if len(t.grants) >= maxTokens {
		for token, old := range t.grants {
			if now.After(old.expires) {
				delete(t.grants, token)
			}
		}
	}
	if len(t.grants) >= maxTokens {
		return "", fmt.Errorf("%w: %d streaming URLs are waiting for their clients", pod.ErrExhausted, maxTokens)
	}
	token := rand.Text() // 128 bits at least
	g.expires = now.Add(tokenLife)
	t.grants[token] = g
	return token, nil
}

// take returns the grant of token and forgets it, so that a URL works once.
func (t *tokens) take(v verb, token string) (grant, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	g, ok := t.grants[token]
	if !ok || g.verb != v {
		return grant{}, false
	}
	delete(t.grants, token)
	return g, !t.now().After(g.expires)
}
