package main

import (
	"fmt"
	"net"
	"strconv"
)

// What the daemon serves, and whom it tells: options that are read together.

func streamAddress(c *crioConfig, t *translation, k crioKey) {
	t.set("cri.stream.address", net.JoinHostPort(fmt.Sprint(k.value), c.text("crio.api.stream_port", "0")))
}

func streamPort(c *crioConfig, t *translation, k crioKey) {
	t.set("cri.stream.address", net.JoinHostPort(c.text("crio.api.stream_address", "127.0.0.1"), fmt.Sprint(k.value)))
}

// streamTLS is for a file that is used where TLS is switched on.
func streamTLS(path string) rule {
	return func(c *crioConfig, t *translation, k crioKey) {
		if c.keys["crio.api.stream_enable_tls"].value != true {
			t.note(k, "has no effect without crio.api.stream_enable_tls = true")
			return
		}
		t.set(path, k.value)
	}
}

// streamTLSOn: CRI-O makes a certificate of its own where none is named.
func streamTLSOn(c *crioConfig, t *translation, k crioKey) {
	if k.value == true && (c.text("crio.api.stream_tls_cert", "") == "" || c.text("crio.api.stream_tls_key", "") == "") {
		t.note(k, "needs cri.stream.cert_file and key_file: no certificate is made")
	}
}

// metricsAddress: CRI-O listens at a socket as well, here it is one of the two.
func metricsAddress(c *crioConfig, t *translation, k crioKey) {
	if c.text("crio.metrics.metrics_socket", "") != "" {
		t.note(k, "has no effect beside metrics_socket: one of the two is served")
		return
	}
	withSwitch("crio.metrics.enable_metrics")(c, t, k)
}

func metricsListen(c *crioConfig, t *translation, k crioKey) {
	if k.value != true {
		return
	}
	if socket := c.text("crio.metrics.metrics_socket", ""); socket != "" {
		t.set("metrics_listen", "unix:"+socket)
		return
	}
	t.set("metrics_listen", net.JoinHostPort(c.text("crio.metrics.metrics_host", "127.0.0.1"), c.text("crio.metrics.metrics_port", "9090")))
}

func tracing(c *crioConfig, t *translation, k crioKey) {
	if k.value != true {
		return
	}
	t.set("telemetry.endpoint", "http://"+c.text("crio.tracing.tracing_endpoint", "127.0.0.1:4317"))
	rate, err := strconv.Atoi(c.text("crio.tracing.tracing_sampling_rate_per_million", "0"))
	if err != nil || rate <= 0 { // of what kubelet does not sample, nothing
		t.set("telemetry.sampler", "parentbased_always_off")
		return
	}
	t.set("telemetry.sampler", "parentbased_traceidratio")
	t.set("telemetry.sampler_arg", strconv.FormatFloat(float64(rate)/1e6, 'g', -1, 64))
}

const defaultNRISocket = "/var/run/nri/nri.sock"

func nriSocket(c *crioConfig, t *translation, k crioKey) {
	if k.value == true {
		t.set("nri_socket", c.text("crio.nri.nri_listen", defaultNRISocket))
	}
}

// nriListen: plugins are served unless they are switched off.
func nriListen(c *crioConfig, t *translation, k crioKey) {
	if c.text("crio.nri.enable_nri", "true") != "true" {
		t.note(k, "has no effect with crio.nri.enable_nri = false")
		return
	}
	t.set("nri_socket", k.value)
}
