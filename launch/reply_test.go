package launch

import (
	"reflect"
	"strings"
	"testing"
)

func TestReplySurvivesTheWire(t *testing.T) {
	for name, r := range map[string]Reply{
		"empty":   {},
		"created": {PID: 42, Steps: []Step{{"libct.create", 1, 2}, {"libct.rootfs", 2, 3}}},
		"entered": {PID: 42, Way: WayEnter},
		"unusual": {PID: 42, Way: "hooks: needs libcontainer"},
		"failed":  {Error: &Error{Step: "libct.mount", Kind: KindInvalid, Message: "mount /x: no such file"}},
	} {
		got, err := ParseReply(string(r.Append(nil)))
		if err != nil || !reflect.DeepEqual(got, r) {
			t.Errorf("%s: got %+v, %v", name, got, err)
		}
	}
}

func TestCutOffReplyIsAnError(t *testing.T) {
	whole := string(Reply{PID: 7, Error: &Error{Step: "s", Kind: KindGone, Message: "a\nb"}}.Append(nil))
	if strings.Count(whole, "\n") != 3 {
		t.Fatalf("a message must stay on one line: %q", whole)
	}
	for i := range len(whole) - 1 {
		if _, err := ParseReply(whole[:i]); err == nil {
			t.Errorf("%q was accepted", whole[:i])
		}
	}
}

func FuzzParseReply(f *testing.F) {
	f.Add("pid 1\nstep a 1 2\nerror internal s m\nend\n")
	f.Fuzz(func(t *testing.T, text string) { // property: what is accepted is written back to something that parses to the same
		r, err := ParseReply(text)
		if err != nil {
			return
		}
		if r2, err := ParseReply(string(r.Append(nil))); err != nil || r2.PID != r.PID || len(r2.Steps) != len(r.Steps) {
			t.Fatalf("%q: %+v then %+v, %v", text, r, r2, err)
		}
	})
}
