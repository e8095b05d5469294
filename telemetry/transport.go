package telemetry

import (
	"bytes"
	stdgzip "compress/gzip"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strconv"
	"time"

	collectortrace "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/vitrine-runtime/vitrine/pod"
)

// transport sends encoded export requests of one signal to the collector. It does
// not dial before the first, and never follows up by itself: who retries is delivery.
type transport struct {
	send  func(ctx context.Context, raw []byte) (answer []byte, err error)
	close func()
}

// refusal is a collector's word that it will never take this batch.
type refusal struct{ cause error }

// Error is the collector's answer.
func (r refusal) Error() string { return "the collector refuses the batch: " + r.cause.Error() }

// Unwrap is the cause.
func (r refusal) Unwrap() error { return r.cause }

// later is a failure with the collector's wish of how long to wait.
type later struct {
	cause error
	wait  time.Duration
}

// Error is the collector's answer.
func (l later) Error() string { return l.cause.Error() }

// Unwrap is the cause.
func (l later) Unwrap() error { return l.cause }

func newTransport(s exportSettings, of signal, agent string) (*transport, error) {
	security, err := tlsConfig(s)
	if err != nil {
		return nil, err
	}
	if s.protocol == protocolHTTP {
		base := &http.Transport{TLSClientConfig: security, Proxy: http.ProxyFromEnvironment, MaxIdleConns: 1, ForceAttemptHTTP2: true}
		client := &http.Client{Transport: base, CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
		return &transport{s.overHTTP(client, agent), base.CloseIdleConnections}, nil
	}
	creds := credentials.NewTLS(security)
	if s.plain {
		creds = insecure.NewCredentials()
	}
	conn, err := grpc.NewClient(s.target, grpc.WithTransportCredentials(creds), grpc.WithUserAgent(agent))
	if err != nil {
		return nil, fmt.Errorf("%w: telemetry endpoint %s: %w", pod.ErrInvalid, s.target, err)
	}
	return &transport{s.overGRPC(conn, of), func() { conn.Close() }}, nil
}

// services are the methods that take a signal.
var services = map[signal]string{
	traces:  "/opentelemetry.proto.collector.trace.v1.TraceService/Export",
	logs:    "/opentelemetry.proto.collector.logs.v1.LogsService/Export",
	metered: "/opentelemetry.proto.collector.metrics.v1.MetricsService/Export",
}

// encoded is a gRPC codec for messages that are bytes already: a batch is encoded
// once, whether it goes to the wire or to disk first.
type encoded struct{}

// Marshal passes on.
func (encoded) Marshal(v any) ([]byte, error) { return v.([]byte), nil }

// Unmarshal keeps a copy.
func (encoded) Unmarshal(data []byte, v any) error {
	*v.(*[]byte) = bytes.Clone(data)
	return nil
}

// Name is that of the bytes on the wire.
func (encoded) Name() string { return "proto" }

func (s exportSettings) overGRPC(conn *grpc.ClientConn, of signal) func(context.Context, []byte) ([]byte, error) {
	options := []grpc.CallOption{grpc.ForceCodec(encoded{})}
	if s.gzip {
		options = append(options, grpc.UseCompressor(gzip.Name))
	}
	return func(ctx context.Context, raw []byte) (answer []byte, err error) {
		if len(s.headers) > 0 {
			ctx = metadata.NewOutgoingContext(ctx, metadata.New(s.headers))
		}
		err = conn.Invoke(ctx, services[of], raw, &answer, options...)
		return answer, classifyGRPC(err)
	}
}

// classifyGRPC follows "OTLP/gRPC Response" of the OTLP specification in what a
// batch is at fault for. The specification would drop a batch also when credentials
// are wrong or nobody serves the method; we keep it, because that is a collector's
// state, which its operator mends, and the spool has a bound.
func classifyGRPC(err error) error {
	if err == nil {
		return nil
	}
	s := status.Convert(err)
	switch s.Code() {
	case codes.InvalidArgument, codes.FailedPrecondition, codes.AlreadyExists, codes.Internal, codes.Unknown, codes.NotFound:
		return refusal{err}
	}
	for _, d := range s.Details() {
		if retry, ok := d.(*errdetails.RetryInfo); ok {
			return later{err, retry.GetRetryDelay().AsDuration()}
		}
	}
	return err
}

// maxAnswer bounds what is read of a collector's answer, in bytes.
const maxAnswer = 64 << 10

// maxErrorText bounds what of a refusal is told, in bytes.
const maxErrorText = 512

func (s exportSettings) overHTTP(client *http.Client, agent string) func(context.Context, []byte) ([]byte, error) {
	return func(ctx context.Context, raw []byte) ([]byte, error) {
		if s.gzip {
			var small bytes.Buffer
			zip := stdgzip.NewWriter(&small)
			zip.Write(raw) // a buffer takes everything
			zip.Close()
			raw = small.Bytes()
		}
		request, err := http.NewRequestWithContext(ctx, http.MethodPost, s.target, bytes.NewReader(raw))
		if err != nil {
			return nil, err
		}
		for key, value := range s.headers {
			request.Header.Set(key, value)
		}
		request.Header.Set("Content-Type", "application/x-protobuf")
		request.Header.Set("User-Agent", agent)
		if s.gzip {
			request.Header.Set("Content-Encoding", "gzip")
		}
		response, err := client.Do(request)
		if err != nil {
			return nil, err
		}
		defer response.Body.Close()
		answer, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
		if response.StatusCode/100 == 2 {
			return answer, err
		}
		return nil, classifyHTTP(response, answer)
	}
}

// classifyHTTP is classifyGRPC for "OTLP/HTTP Response".
func classifyHTTP(response *http.Response, answer []byte) error {
	err := fmt.Errorf("collector answers %s: %q", response.Status, clip(string(bytes.TrimSpace(answer)), maxErrorText))
	switch code := response.StatusCode; code {
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if seconds, e := strconv.Atoi(response.Header.Get("Retry-After")); e == nil && seconds > 0 {
			return later{err, time.Duration(seconds) * time.Second}
		}
		return err
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented, http.StatusProxyAuthRequired:
		return err
	default:
		if code/100 == 3 {
			return err
		}
		return refusal{err}
	}
}

// rejected is how many items a collector did not take out of a batch that it took,
// and why. The answers of the three signals have the same fields.
func rejected(answer []byte) (int, string) {
	var a collectortrace.ExportTraceServiceResponse
	if proto.Unmarshal(answer, &a) != nil {
		return 0, ""
	}
	return int(max(0, a.GetPartialSuccess().GetRejectedSpans())), a.GetPartialSuccess().GetErrorMessage()
}

// tlsConfig is nil, the system's, when s names no files.
func tlsConfig(s exportSettings) (*tls.Config, error) {
	if s.caFile == "" && s.certFile == "" && s.keyFile == "" {
		return nil, nil
	}
	security := &tls.Config{MinVersion: tls.VersionTLS12}
	if s.caFile != "" {
		pem, err := os.ReadFile(s.caFile)
		if err != nil {
			return nil, fmt.Errorf("read CA certificates for telemetry: %w", err)
		}
		security.RootCAs = x509.NewCertPool()
		if !security.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: %s holds no PEM certificate", pod.ErrInvalid, s.caFile)
		}
	}
	if s.certFile != "" || s.keyFile != "" {
		pair, err := tls.LoadX509KeyPair(s.certFile, s.keyFile)
		if err != nil {
			return nil, errors.Join(pod.ErrInvalid, fmt.Errorf("read client certificate for telemetry: %w", err))
		}
		security.Certificates = []tls.Certificate{pair}
	}
	return security, nil
}
