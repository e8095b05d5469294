package image

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/vitrine-runtime/vitrine/pod"
	"github.com/vitrine-runtime/vitrine/test/fixture"
)

func token(claims string) string {
	part := base64.RawURLEncoding.EncodeToString
	return part([]byte(`{"alg":"none"}`)) + "." + part([]byte(claims)) + "." + part([]byte("signature"))
}

func TestLifetimeOfAToken(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	for name, test := range map[string]struct{ token, want string }{
		"good":               {token(`{"nbf":1699999000,"exp":1700001000}`), ""},
		"of tomorrow":        {token(`{"nbf":1700086400,"exp":1700090000}`), "not valid before"},
		"issued tomorrow":    {token(`{"iat":1700086400}`), "not valid before"},
		"of yesterday":       {token(`{"nbf":1699900000,"exp":1699910000}`), "not valid after"},
		"within the leeway":  {token(`{"nbf":1700000030}`), ""},
		"without claims":     {token(`{}`), ""},
		"of senseless times": {token(`{"nbf":1e300,"exp":-5}`), ""},
		"of another type":    {token(`{"nbf":"soon"}`), ""},
		"opaque":             {"aaaaaaaaaaaaaaaa", ""},
		"no base64":          {"a.%%%.c", ""},
		"empty":              {"", ""},
	} {
		if got := lifetimeOf(test.token).wrong(now); (got == "") != (test.want == "") || !strings.Contains(got, test.want) {
			t.Errorf("%s: %q, want %q", name, got, test.want)
		}
	}
}

func TestRefusalTellsOfClocksAndInTheRegistrysWords(t *testing.T) {
	secret := "bear-this-secret-token"
	early := token(fmt.Sprintf(`{"nbf":%d}`, time.Now().Add(time.Hour).Unix()))
	for name, test := range map[string]struct {
		token  string
		fault  fixture.Fault
		says   []string
		silent []string
	}{
		"the registry's words":  {token: secret, fault: fixture.Fault{Body: `{"errors":[{"code":"UNAUTHORIZED","message":"token is not valid yet"}]}`}, says: []string{`the registry says "token is not valid yet"`}, silent: []string{"clock"}},
		"the challenge's words": {token: secret, fault: fixture.Fault{Header: http.Header{"Www-Authenticate": {`Bearer realm="http://127.0.0.1:1/",error_description="key is gone"`}}}, says: []string{`key is gone`}},
		"a clock that is behind": {token: secret, fault: fixture.Fault{Header: http.Header{"Date": {time.Now().Add(-time.Hour).UTC().Format(http.TimeFormat)}}},
			says: []string{"the registry's clock is ", "behind this node's"}},
		"a clock that is ahead": {token: secret, fault: fixture.Fault{Header: http.Header{"Date": {time.Now().Add(time.Hour).UTC().Format(http.TimeFormat)}}},
			says: []string{"ahead of this node's"}},
		"a token of later":         {token: early, says: []string{"the token is not valid before"}},
		"the token in the answer":  {token: secret, fault: fixture.Fault{Body: `{"errors":[{"code":"UNAUTHORIZED","message":"no such token: ` + secret + `"}]}`}, says: []string{"no such token: ***"}},
		"nothing that could be it": {token: secret, silent: []string{"clock", "says"}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t)
			pushed := w.push("refused/image:1", small("refused"))
			test.fault.Status = http.StatusUnauthorized
			if test.fault.Header == nil {
				test.fault.Header = http.Header{}
			}
			if test.fault.Header.Get("Www-Authenticate") == "" {
				test.fault.Header.Set("Www-Authenticate", `Bearer realm="http://127.0.0.1:1/",error="invalid_token"`)
			}
			w.proxy.Inject(test.fault)
			_, err := w.Pull(t.Context(), PullRequest{Ref: pushed.Ref, Auth: &Auth{RegistryToken: test.token}})
			if !errors.Is(err, pod.ErrDenied) {
				t.Fatalf("%v", err)
			}
			for _, words := range test.says {
				if !strings.Contains(err.Error(), words) {
					t.Errorf("%q does not say %q", err, words)
				}
			}
			for _, words := range append(test.silent, test.token) {
				if strings.Contains(err.Error(), words) {
					t.Errorf("%q says %q", err, words)
				}
			}
		})
	}
}
