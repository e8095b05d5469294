package telemetry

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"strings"

	"go.opentelemetry.io/otel/exporters/otlp/otlptrace"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracehttp"
	"google.golang.org/grpc/credentials"

	"github.com/vitrine-runtime/vitrine/pod"
)

// newClient makes the OTLP client; it does not dial. What c leaves open the client
// reads from the OTEL_EXPORTER_OTLP_* variables itself.
func newClient(c Config, protocol string) (otlptrace.Client, error) {
	if c.Endpoint != "" && !strings.HasPrefix(c.Endpoint, "http://") && !strings.HasPrefix(c.Endpoint, "https://") {
		return nil, fmt.Errorf("%w: telemetry endpoint %q must begin with http:// or https://", pod.ErrInvalid, c.Endpoint)
	}
	security, err := tlsConfig(c)
	if err != nil {
		return nil, err
	}
	if protocol == protocolHTTP {
		var options []otlptracehttp.Option
		if c.Endpoint != "" {
			options = append(options, otlptracehttp.WithEndpointURL(httpURL(c.Endpoint)))
		}
		if len(c.Headers) > 0 {
			options = append(options, otlptracehttp.WithHeaders(c.Headers))
		}
		if security != nil {
			options = append(options, otlptracehttp.WithTLSClientConfig(security))
		}
		return otlptracehttp.NewClient(options...), nil
	}
	var options []otlptracegrpc.Option
	if c.Endpoint != "" {
		options = append(options, otlptracegrpc.WithEndpointURL(c.Endpoint))
	}
	if len(c.Headers) > 0 {
		options = append(options, otlptracegrpc.WithHeaders(c.Headers))
	}
	if security != nil {
		options = append(options, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(security)))
	}
	return otlptracegrpc.NewClient(options...), nil
}

// httpURL adds the path of the traces signal to an endpoint that has none, as
// OTEL_EXPORTER_OTLP_ENDPOINT does.
func httpURL(endpoint string) string {
	_, rest, _ := strings.Cut(endpoint, "://")
	if _, path, _ := strings.Cut(rest, "/"); path != "" {
		return endpoint
	}
	return strings.TrimSuffix(endpoint, "/") + "/v1/traces"
}

// tlsConfig is nil when c names no files.
func tlsConfig(c Config) (*tls.Config, error) {
	if c.CAFile == "" && c.CertFile == "" && c.KeyFile == "" {
		return nil, nil
	}
	security := &tls.Config{MinVersion: tls.VersionTLS12}
	if c.CAFile != "" {
		pem, err := os.ReadFile(c.CAFile)
		if err != nil {
			return nil, fmt.Errorf("read CA certificates for telemetry: %w", err)
		}
		security.RootCAs = x509.NewCertPool()
		if !security.RootCAs.AppendCertsFromPEM(pem) {
			return nil, fmt.Errorf("%w: %s holds no PEM certificate", pod.ErrInvalid, c.CAFile)
		}
	}
	if c.CertFile != "" || c.KeyFile != "" {
		pair, err := tls.LoadX509KeyPair(c.CertFile, c.KeyFile)
		if err != nil {
			return nil, fmt.Errorf("read client certificate for telemetry: %w", err)
		}
		security.Certificates = []tls.Certificate{pair}
	}
	return security, nil
}
