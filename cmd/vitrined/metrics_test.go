package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestMetricsAreServedOverTLSToWhoHasTheToken(t *testing.T) {
	dir := t.TempDir()
	write := func(name string, text []byte) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, text, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	cert, key, pool := certificate(t)
	c := &Config{MetricsListen: "127.0.0.1:0", MetricsCertFile: write("cert", cert), MetricsKeyFile: write("key", key), MetricsTokenFile: write("token", []byte("first\n"))}
	listener, err := listenMetrics(c)
	if err != nil {
		t.Fatal(err)
	}
	defer serveHTTP(listener, withToken(c.MetricsTokenFile, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "page") })))()
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	defer transport.CloseIdleConnections()
	code := func(token string) int {
		t.Helper()
		request, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://"+listener.Addr().String()+"/metrics", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Authorization", "Bearer "+token)
		}
		answer, err := (&http.Client{Transport: transport}).Do(request)
		if err != nil {
			t.Fatal(err)
		}
		answer.Body.Close()
		return answer.StatusCode
	}
	if a, b, c := code("first"), code(""), code("second"); a != 200 || b != 401 || c != 401 {
		t.Errorf("with the token %d, without %d, with another %d", a, b, c)
	}
	write("token", []byte("second"))
	if a, b := code("second"), code("first"); a != 200 || b != 401 {
		t.Errorf("after the change: with the new token %d, with the old %d", a, b)
	}
	write("token", nil)
	if got := code(""); got != 503 {
		t.Errorf("with an emptied file: %d", got)
	}
	if answer, err := http.Get("http://" + listener.Addr().String() + "/metrics"); err == nil {
		answer.Body.Close()
		if answer.StatusCode == 200 {
			t.Error("served without TLS")
		}
	}
}

func TestMetricsListenerRefusesHalfASetting(t *testing.T) {
	for name, c := range map[string]Config{
		"certificate alone": {MetricsCertFile: "x"},
		"key alone":         {MetricsKeyFile: "x"},
		"absent pair":       {MetricsCertFile: "/absent", MetricsKeyFile: "/absent"},
		"absent token":      {MetricsTokenFile: "/absent"},
		"empty token":       {MetricsTokenFile: os.DevNull},
	} {
		c.MetricsListen = "127.0.0.1:0"
		if l, err := listenMetrics(&c); err == nil {
			l.Close()
			t.Errorf("%s is accepted", name)
		}
	}
}

func certificate(t *testing.T) (cert, key []byte, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	pool = x509.NewCertPool()
	cert = pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	pool.AppendCertsFromPEM(cert)
	return cert, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: raw}), pool
}
