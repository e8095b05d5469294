package e2e

import (
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vitrine-runtime/vitrine/test/harness"
)

// What users of CRI-O ask for by annotation is given where the administrator allows it,
// to exec sessions too; what is not allowed is not looked at, and what cannot be is refused
// by its annotation's name.
func TestPodsGetTheDevicesShmAndUmaskThatTheyMayAskFor(t *testing.T) {
	n := start(t, harness.Options{Config: `[runtime]
annotations = ["io.kubernetes.cri-o.Devices", "io.kubernetes.cri-o.ShmSize", "umask.crio.io"]
allowed_devices = ["/dev/full"]
`})
	pod := n.HostPod("wishes")
	pod.Annotations = map[string]string{
		"io.kubernetes.cri-o.Devices": "/dev/full:/dev/brim:r", "io.kubernetes.cri-o.ShmSize": "3Mi", "umask.crio.io/own": "0027", "umask.crio.io/session": "0007",
		"shm-size.crio.io": "1Gi", "devices.crio.io": "/dev/kmsg", // not on the list
	}
	sandbox := harness.Must(n.cri.RunPod(n.ctx, pod))(t)
	script := `umask; head -c 2 /dev/brim | wc -c; { echo >/dev/brim; } 2>/dev/null || echo kept; test -e /dev/kmsg || echo absent
df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d ' ' -f 2`
	for name, mask := range map[string]string{"own": "0027", "other": "0022"} {
		id, c := n.run(sandbox, pod, name, "/bin/sh", "-c", script)
		harness.Must(n.cri.WaitExit(n.ctx, id))(t)
		n.stdout(pod, c, mask+"\n2\nkept\nabsent\n3072\n")
	}
	session, _ := n.run(sandbox, pod, "session", "/bin/sleep", "1000")
	if r := harness.Must(n.cri.Exec(n.ctx, session, 60, "/bin/sh", "-c", "umask"))(t); string(r.Stdout) != "0007\n" {
		t.Errorf("an exec session says %q", r.Stdout)
	}
	n.must(n.cri.RemovePod(n.ctx, sandbox))

	for key, value := range map[string]string{"io.kubernetes.cri-o.Devices": "/dev/kmsg", "io.kubernetes.cri-o.ShmSize": "a lot", "umask.crio.io": "0999"} {
		bad := n.HostPod("bad")
		bad.Annotations = map[string]string{key: value}
		if _, err := n.cri.RunPod(n.ctx, bad); status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), key) {
			t.Errorf("%s of %q: %v", key, value, err)
		}
	}
	n.nothingLeft()
}
