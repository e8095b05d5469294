package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"syscall"

	"github.com/docker/distribution/registry/api/errcode"
	v2 "github.com/docker/distribution/registry/api/v2"
	"go.podman.io/image/v5/docker"
	"go.podman.io/image/v5/signature"
	"go.podman.io/storage"

	"github.com/vitrine-runtime/vitrine/pod"
)

// Failure is an error of a pull as its callers see it: one line without secrets,
// which is a sentinel of pod by errors.Is.
type Failure struct {
	kind  error
	class string
	text  string
	cause error
}

// Error is one line that names the image and the cause. When the sentinel is a
// prefix that kubelet parses, the line begins with it.
func (f *Failure) Error() string { return f.text }

// Unwrap gives the sentinel, and of the cause only what callers branch on.
func (f *Failure) Unwrap() []error {
	all := []error{f.kind}
	for _, known := range []error{context.Canceled, context.DeadlineExceeded, syscall.ENOSPC, errUncovered, storage.ErrLayerUnknown, storage.ErrParentUnknown} {
		if errors.Is(f.cause, known) {
			all = append(all, known)
		}
	}
	return all
}

// Class is a bounded word for metrics: dns, tcp, tls, auth, denied, notfound,
// ratelimit, server, timeout, stall, digest, signature, disk, cancel, invalid, limit, other.
func (f *Failure) Class() string { return f.class }

// errStalled ends a pull that makes no progress; it is the cause of its context.
var errStalled = errors.New("registry stalled")

// failure says what went wrong with an image, without the credentials in secrets.
func failure(ref string, err error, secrets []string) error {
	if err == nil {
		return nil
	}
	var already *Failure
	if errors.As(err, &already) {
		return already
	}
	kind, class := classify(err)
	text := fmt.Sprintf("pull image %q: %s", ref, redact(tuning.ReplaceAllString(err.Error(), ""), secrets))
	if kind == pod.ErrRegistryUnavailable || kind == pod.ErrSignatureValidationFailed {
		text = kind.Error() + ": " + text
	}
	return &Failure{kind: kind, class: class, text: text, cause: err}
}

// classify finds the sentinel and the class of an error of containers/image.
func classify(err error) (kind error, class string) {
	var (
		policy      signature.PolicyRequirementError
		badSig      signature.InvalidSignatureError
		badPolicy   signature.InvalidPolicyFormatError
		credentials docker.ErrUnauthorizedForCredentials
		status      docker.UnexpectedHTTPStatusError
		coded       errcode.ErrorCoder
		dns         *net.DNSError
		network     net.Error
	)
	text := err.Error()
	if errors.As(err, &status) {
		if kind, class := classifyStatus(status.StatusCode); kind != nil {
			return kind, class
		}
	}
	if errors.As(err, &coded) {
		switch coded.ErrorCode() {
		case errcode.ErrorCodeUnauthorized:
			return pod.ErrDenied, "auth"
		case errcode.ErrorCodeDenied:
			return pod.ErrDenied, "denied"
		case errcode.ErrorCodeTooManyRequests:
			return pod.ErrRegistryUnavailable, "ratelimit"
		case errcode.ErrorCodeUnavailable:
			return pod.ErrRegistryUnavailable, "server"
		case v2.ErrorCodeManifestUnknown, v2.ErrorCodeNameUnknown, v2.ErrorCodeBlobUnknown:
			return pod.ErrNotFound, "notfound"
		}
	}
	if m := statusText.FindStringSubmatch(text); m != nil {
		var code int
		fmt.Sscan(m[1], &code)
		if kind, class := classifyStatus(code); kind != nil {
			return kind, class
		}
	}
	switch {
	case errors.Is(err, errStalled):
		return pod.ErrRegistryUnavailable, "stall"
	case errors.As(err, &policy), errors.As(err, &badSig), errors.As(err, &badPolicy):
		return pod.ErrSignatureValidationFailed, "signature"
	case errors.As(err, &credentials):
		return pod.ErrDenied, "auth"
	case errors.Is(err, docker.ErrTooManyRequests):
		return pod.ErrRegistryUnavailable, "ratelimit"
	case errors.Is(err, context.Canceled):
		return pod.ErrUnavailable, "cancel"
	case errors.Is(err, errDigest), errors.Is(err, errDamaged), strings.Contains(text, "does not match config's DiffID"), strings.Contains(text, "igest did not match"), strings.Contains(text, "does not match provided manifest digest"):
		return pod.ErrUnavailable, "digest"
	case errors.Is(err, pod.ErrExhausted):
		return pod.ErrExhausted, "limit"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT), errors.Is(err, syscall.EIO), errors.Is(err, syscall.EROFS):
		return pod.ErrUnavailable, "disk"
	case partial.MatchString(text) && (mismatch.MatchString(text) || errors.Is(err, io.ErrUnexpectedEOF)):
		return pod.ErrUnavailable, "digest"
	case errors.As(err, &dns):
		return pod.ErrRegistryUnavailable, "dns"
	case strings.Contains(text, "redirects"):
		return pod.ErrRegistryUnavailable, "server"
	case strings.Contains(text, "tls: "), strings.Contains(text, "x509: "), strings.Contains(text, "server gave HTTP response to HTTPS client"):
		return pod.ErrRegistryUnavailable, "tls"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EPIPE), errors.Is(err, io.ErrUnexpectedEOF):
		return pod.ErrRegistryUnavailable, "tcp"
	case errors.Is(err, context.DeadlineExceeded):
		return pod.ErrDeadline, "timeout"
	case errors.As(err, &network):
		if network.Timeout() {
			return pod.ErrRegistryUnavailable, "timeout"
		}
		return pod.ErrRegistryUnavailable, "tcp"
	}
	for _, sentinel := range []error{pod.ErrInvalid, pod.ErrNotFound, pod.ErrDenied, pod.ErrUnsupported, pod.ErrState} {
		if errors.Is(err, sentinel) {
			return sentinel, "invalid"
		}
	}
	if errors.Is(err, storage.ErrImageUnknown) || errors.Is(err, storage.ErrLayerUnknown) {
		return pod.ErrUnavailable, "disk"
	}
	return pod.ErrUnavailable, "other"
}

// statusText is how containers/image words an HTTP status it has no type for.
var statusText = regexp.MustCompile(`(?i)(?:StatusCode: |invalid status code from registry |unexpected HTTP status:? |received unexpected HTTP status:? )(\d{3})`)

// partial is how containers/image words a failure of a partial pull. The library reads a
// chunk with the wrong bytes, or too few, to the end of its decompressor and then compares
// digests; what it says of that has no type.
var (
	partial  = regexp.MustCompile(`partial pull of blob|partially-pulled layer`)
	mismatch = regexp.MustCompile(`checksum mismatch for|magic number mismatch|invalid (input|checksum|header|block)|corrupt|not enough data returned|invalid stream returned`)
)

func classifyStatus(code int) (kind error, class string) {
	switch {
	case code == http.StatusUnauthorized:
		return pod.ErrDenied, "auth"
	case code == http.StatusForbidden:
		return pod.ErrDenied, "denied"
	case code == http.StatusNotFound:
		return pod.ErrNotFound, "notfound"
	case code == http.StatusTooManyRequests:
		return pod.ErrRegistryUnavailable, "ratelimit"
	case code >= 500:
		return pod.ErrRegistryUnavailable, "server"
	}
	return nil, ""
}

// tuning is what containers/image puts before an error of a body that it read again from
// the middle: figures for whoever tunes its heuristics.
var tuning = regexp.MustCompile(`\(heuristic tuning data: [^)]*\): `)

var (
	userinfo = regexp.MustCompile(`(://)[^/@\s"']+@`)
	query    = regexp.MustCompile(`(://[^\s"'?]+)\?[^\s"']*`)
	bearer   = regexp.MustCompile(`(?i)(bearer|basic) [A-Za-z0-9._~+/=-]{8,}`)
)

// maxText bounds a message, in bytes: a registry may answer with a page of HTML.
const maxText = 1024

// redact makes one line of a message and takes out user names and queries of URLs,
// authorization headers, and every literal secret.
func redact(text string, secrets []string) string {
	for _, s := range secrets {
		if len(s) >= 3 {
			text = strings.ReplaceAll(text, s, "***")
		}
	}
	text = userinfo.ReplaceAllString(text, "$1")
	text = query.ReplaceAllString(text, "$1")
	text = bearer.ReplaceAllString(text, "$1 ***")
	text = strings.Join(strings.Fields(text), " ")
	text = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, text)
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	return text
}
