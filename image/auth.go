package image

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"net/url"
	"strings"

	"go.podman.io/image/v5/docker/reference"
	"go.podman.io/image/v5/types"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Auth is what a request brings to prove who asks: CRI's AuthConfig. The strongest
// field wins: registry token, identity token, username and password, auth.
type Auth struct {
	Username, Password string
	// Auth is base64 of username:password.
	Auth string
	// ServerAddress is the registry that the credentials belong to: a host with an
	// optional port, or a URL. Credentials of another host are not used. Empty: any.
	ServerAddress string
	// IdentityToken is an OAuth2 refresh token.
	IdentityToken string
	// RegistryToken is a bearer token, sent as it is.
	RegistryToken string
}

// String hides everything.
func (a *Auth) String() string { return "credentials" }

// GoString hides everything.
func (a *Auth) GoString() string { return "credentials" }

// key is a digest of the credentials, equal for equal ones. Never shown.
func (a *Auth) key() string {
	if a == nil {
		return ""
	}
	sum := sha256.New()
	for _, s := range []string{a.Username, a.Password, a.Auth, a.ServerAddress, a.IdentityToken, a.RegistryToken} {
		fmt.Fprintf(sum, "%d:%s", len(s), s)
	}
	return hex.EncodeToString(sum.Sum(nil))
}

// secrets are the strings that no message may contain.
func (a *Auth) secrets() []string {
	if a == nil {
		return nil
	}
	all := []string{a.Password, a.Auth, a.IdentityToken, a.RegistryToken}
	if _, password, err := splitAuth(a.Auth); err == nil {
		all = append(all, password)
	}
	return all
}

// apply puts the credentials that belong to the image's registry into sys.
func (a *Auth) apply(sys *types.SystemContext, named reference.Named) error {
	if a == nil || !serves(a.ServerAddress, reference.Domain(named)) {
		return nil
	}
	switch {
	case a.RegistryToken != "":
		sys.DockerBearerRegistryToken = a.RegistryToken
	case a.IdentityToken != "":
		sys.DockerAuthConfig = &types.DockerAuthConfig{Username: a.Username, IdentityToken: a.IdentityToken}
	case a.Username != "" || a.Password != "":
		sys.DockerAuthConfig = &types.DockerAuthConfig{Username: a.Username, Password: a.Password}
	case a.Auth != "":
		username, password, err := splitAuth(a.Auth)
		if err != nil {
			return err
		}
		sys.DockerAuthConfig = &types.DockerAuthConfig{Username: username, Password: password}
	}
	return nil
}

func splitAuth(auth string) (username, password string, err error) {
	raw, err := base64.StdEncoding.DecodeString(strings.TrimSpace(auth))
	if err != nil {
		if raw, err = base64.RawStdEncoding.DecodeString(strings.TrimSpace(auth)); err != nil {
			return "", "", fmt.Errorf("%w: the auth field of the credentials is not base64", pod.ErrInvalid)
		}
	}
	username, password, found := strings.Cut(strings.TrimRight(string(raw), "\x00"), ":")
	if !found {
		return "", "", fmt.Errorf("%w: the auth field of the credentials has no colon", pod.ErrInvalid)
	}
	return username, password, nil
}

// serves reports whether credentials for address may go to host (with port, if any).
func serves(address, host string) bool {
	if address == "" {
		return true
	}
	if !strings.Contains(address, "://") {
		address = "https://" + address
	}
	u, err := url.Parse(address)
	if err != nil {
		return false
	}
	return canonicalHost(u.Host) == canonicalHost(host)
}

// canonicalHost gives the names of Docker Hub one form and drops default ports.
func canonicalHost(host string) string {
	host = strings.ToLower(host)
	host = strings.TrimSuffix(host, ":443")
	switch host {
	case "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com":
		return "docker.io"
	}
	return host
}
