package launch

import "testing"

func TestBriefIsReadAsItWasWritten(t *testing.T) {
	const bits = 1<<1 | 1<<2 | 1<<ExecFD | 1<<GateFD
	packet := AppendBrief(nil, bits, "/run/c/launch.json")
	if got, path, ok := ParseBrief(packet); !ok || got != bits || path != "/run/c/launch.json" {
		t.Errorf("got %b, %q, %v", got, path, ok)
	}
	for name, packet := range map[string]string{"nothing": "", "no path": "\x06", "a descriptor that none is": "\x88/run", "the reply's descriptor": "\x08/run"} {
		if _, _, ok := ParseBrief([]byte(packet)); ok {
			t.Errorf("%s was taken for a brief", name)
		}
	}
}
