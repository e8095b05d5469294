package image

import (
	"context"
	"crypto/tls"
	"net/http/httptrace"
	"strings"
	"sync"
	"time"

	"github.com/vitrine-runtime/vitrine/telemetry"
)

// route follows the HTTP requests of one step, one after another: where they went, over
// what, and which of them asked for a token. containers/image makes them all; what
// net/http tells of them is the only door.
type route struct {
	ctx   context.Context // the step's
	touch func()

	mu        sync.Mutex // guards all below: the transport calls from goroutines of its own, also late
	endpoint  string     // host:port of the last request
	transport string
	asked     time.Time       // when the last request was begun
	token     string          // that it brought
	registry  bool            // it speaks the registry's protocol
	auth      *telemetry.Span // open from a request for a token to the request that it is for
	over      bool
}

// registryHeader is on every request that containers/image sends to a registry, and on
// those that a registry redirects; on one for a token it is not.
const registryHeader = "Docker-Distribution-API-Version"

// follow returns a context under which requests are followed, until end, which the
// caller must call. touch is told of signs of life.
func follow(ctx context.Context, touch func()) (context.Context, *route) {
	r := &route{ctx: ctx, touch: touch}
	return httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{
		GetConn: r.begin, GotConn: r.connected, WroteHeaderField: r.header, WroteHeaders: r.sent,
		GotFirstResponseByte: touch,
	}), r
}

func (r *route) begin(hostPort string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.auth.End(nil) // what follows a request for a token is what the token is for
	r.auth, r.endpoint, r.asked, r.registry, r.token = nil, hostPort, time.Now(), false, ""
}

func (r *route) connected(info httptrace.GotConnInfo) {
	transport := "http"
	if c, ok := info.Conn.(*tls.Conn); ok {
		transport = "https"
		if c.ConnectionState().NegotiatedProtocol == "h2" {
			transport = "h2"
		}
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.transport = transport
}

func (r *route) header(key string, values []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if strings.EqualFold(key, "Authorization") && len(values) == 1 {
		if token, bearer := strings.CutPrefix(values[0], "Bearer "); bearer {
			r.token = token
		}
	}
	r.registry = r.registry || strings.EqualFold(key, registryHeader)
}

// sent is when it is known what the request was; its span begins with the request.
func (r *route) sent() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.registry && !r.over && r.auth == nil {
		_, r.auth = telemetry.StartAt(r.ctx, r.asked, "image.auth", telemetry.KeyImageEndpoint.String(r.endpoint))
	}
}

// refused is where the last request went, over what and with which token; without one if it
// went to no registry or brought none.
func (r *route) refused() (endpoint, transport, token string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.registry {
		return r.endpoint, r.transport, ""
	}
	return r.endpoint, r.transport, r.token
}

// end tells the step's span where its last request went. err is how the step ended: if a
// token was asked for last, it is that request's. It may be called again.
func (r *route) end(span *telemetry.Span, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.endpoint != "" {
		span.Set(telemetry.KeyImageEndpoint.String(r.endpoint))
	}
	if r.transport != "" {
		span.Set(telemetry.KeyImageTransport.String(r.transport))
	}
	r.auth.End(&err)
	r.auth, r.over = nil, true
}
