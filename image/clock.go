package image

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/pkg/tlsclientconfig"

	"github.com/vitrine-runtime/vitrine/telemetry"
)

// A registry that refuses a token is asked a second time, because containers/image keeps
// the refusal's first word alone: what the registry says besides, and what time it has.
// "Not valid yet" is no matter of credentials but of clocks, of which there are three: the
// token service's, the registry's and this node's.

const (
	// askBound is how long a registry may take for its second answer, whose body is read
	// so far in bytes.
	askBound     = 3 * time.Second
	maxRefusal   = 4 << 10
	maxWordsSaid = 200
	// skewTold is from when on a registry's clock is told of: tokens are given a minute of
	// leeway, and the Date of an answer has whole seconds.
	skewTold = time.Minute
)

// lifetime is the time in which a token is good, by its own words; zero: not told.
type lifetime struct{ from, until time.Time }

// lifetimeOf reads the claims of a JSON web token (RFC 7519, 4.1.4 to 4.1.6). Of a token of
// another form nothing is known.
func lifetimeOf(token string) (l lifetime) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return l
	}
	raw, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	var claims struct{ NBF, IAT, EXP float64 }
	if err != nil || json.Unmarshal(raw, &claims) != nil {
		return l
	}
	at := func(seconds float64) time.Time {
		if seconds <= 0 || seconds > 1<<40 {
			return time.Time{}
		}
		return time.Unix(int64(seconds), 0)
	}
	if l.from = at(claims.NBF); l.from.IsZero() {
		l.from = at(claims.IAT)
	}
	l.until = at(claims.EXP)
	return l
}

// wrong says that a token is not good at a moment; empty: it is, or that is not known.
func (l lifetime) wrong(now time.Time) string {
	const layout = "2006-01-02T15:04:05Z"
	switch {
	case !l.from.IsZero() && l.from.Sub(now) >= skewTold:
		return fmt.Sprintf("the token is not valid before %s and this node has %s", l.from.UTC().Format(layout), now.UTC().Format(layout))
	case !l.until.IsZero() && now.Sub(l.until) >= skewTold:
		return fmt.Sprintf("the token is not valid after %s and this node has %s", l.until.UTC().Format(layout), now.UTC().Format(layout))
	}
	return ""
}

// refusal adds to an error of a registry that wanted other credentials what can be learnt
// about the clocks, and in the registry's own words. Other errors stay as they are.
func (p *pull) refusal(ctx context.Context, named reference.Named, r *route, err error) error {
	if err == nil {
		return nil
	}
	if _, class := classify(err); class != "auth" {
		return err
	}
	endpoint, transport, token := r.refused()
	if token == "" {
		return err
	}
	var said []string
	if text := lifetimeOf(token).wrong(time.Now()); text != "" {
		said = append(said, text)
	}
	var answer registryAnswer
	var askErr error
	p.step(ctx, "image.refusal", func(ctx context.Context, span *telemetry.Span) error {
		span.Set(telemetry.KeyImageEndpoint.String(endpoint))
		answer, askErr = p.askAgain(ctx, named, endpoint, transport, token)
		return nil // who fails is the step around this one
	})
	if askErr == nil {
		if answer.words != "" && !strings.Contains(err.Error(), answer.words) {
			said = append(said, fmt.Sprintf("the registry says %q", redact(answer.words, append(p.req.Auth.secrets(), token))))
		}
		switch skew := answer.skew.Round(time.Second); {
		case answer.skew >= skewTold:
			said = append(said, fmt.Sprintf("the registry's clock is %s ahead of this node's", skew))
		case -answer.skew >= skewTold:
			said = append(said, fmt.Sprintf("the registry's clock is %s behind this node's", -skew))
		}
	}
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("%w: %s", err, strings.Join(said, "; "))
}

// registryAnswer is what a refusal holds besides its status.
type registryAnswer struct {
	words string        // of its own, one line
	skew  time.Duration // how far its clock is ahead of this node's
}

// errNotAsked: the registry cannot be asked in the way in which the token went to it.
var errNotAsked = errors.New("not asked again")

// askAgain sends the token once more to where it was refused, in the same way: over TLS only
// to who proves to be that registry, and never through a proxy.
func (p *pull) askAgain(ctx context.Context, named reference.Named, endpoint, transport, token string) (a registryAnswer, err error) {
	for _, name := range []string{"HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"} {
		if os.Getenv(name) != "" {
			return a, fmt.Errorf("%w: %s is set", errNotAsked, name)
		}
	}
	config := &tls.Config{}
	scheme, host := "http", strings.TrimSuffix(endpoint, ":80")
	if transport != "http" {
		scheme, host = "https", strings.TrimSuffix(endpoint, ":443")
	}
	if dir := p.config.CertsDir; dir != "" && scheme == "https" {
		if err := tlsclientconfig.SetupCertificates(filepath.Join(dir, host), config); err != nil {
			return a, fmt.Errorf("%w: %w", errNotAsked, err)
		}
	}
	path := "/v2/"
	if tag, tagged := named.(reference.Tagged); tagged && reference.Domain(named) == host { // a mirror may have it elsewhere
		path += reference.Path(named) + "/manifests/" + tag.Tag()
	}
	ctx, cancel := context.WithTimeout(ctx, askBound)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, scheme+"://"+host+path, nil)
	if err != nil {
		return a, fmt.Errorf("%w: %w", errNotAsked, err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	request.Header.Set(registryHeader, "registry/2.0")
	client := http.Client{
		Transport:     &http.Transport{TLSClientConfig: config, DisableKeepAlives: true},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	answer, err := client.Do(request)
	if err != nil {
		return a, fmt.Errorf("%w: %w", errNotAsked, err)
	}
	defer answer.Body.Close()
	if at, err := http.ParseTime(answer.Header.Get("Date")); err == nil {
		a.skew = time.Until(at)
	}
	if answer.StatusCode == http.StatusUnauthorized {
		body, _ := io.ReadAll(io.LimitReader(answer.Body, maxRefusal)) // as much as came says what it says
		a.words = refusalWords(body, answer.Header)
	}
	return a, nil
}

// refusalWords are a registry's own words for a refusal: those of its errors (OCI
// distribution specification, error codes), else the challenge's (RFC 6750, 3).
func refusalWords(body []byte, header http.Header) string {
	var problem struct {
		Errors []struct{ Message string }
	}
	words := ""
	if json.Unmarshal(body, &problem) == nil && len(problem.Errors) > 0 {
		words = problem.Errors[0].Message
	}
	if words == "" {
		_, rest, _ := strings.Cut(header.Get("WWW-Authenticate"), `error_description="`)
		words, _, _ = strings.Cut(rest, `"`)
	}
	words = strings.Join(strings.Fields(words), " ")
	if len(words) > maxWordsSaid {
		words = strings.ToValidUTF8(words[:maxWordsSaid], "") + "…"
	}
	return words
}
