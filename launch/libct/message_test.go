package libct

import "testing"

func FuzzNormalize(f *testing.F) { // property: never panics; only stamps change the time
	f.Add("@12 child process in init()", int64(5))
	f.Add("nsexec-0[17]: ~> nsexec stage-0", int64(5))
	f.Fuzz(func(t *testing.T, message string, at int64) {
		text, got := normalize(message, at)
		if got != at && (text == "" || text[0] != '@') {
			t.Fatalf("%q took the time from nowhere", message)
		}
	})
}

func TestMessagesLoseTheirVariableParts(t *testing.T) {
	for message, want := range map[string]string{
		"@12 read sync type:procRun":             "@read sync type:procRun",
		"nsexec-2[9]: booting up go runtime ...": "nsexec-2: booting up go runtime ...",
		"nsexec[9]: => nsexec container setup":   "nsexec: => nsexec container setup",
		"writing sync type:procHooksDone":        "writing sync type:procHooksDone",
	} {
		if got, _ := normalize(message, 1); got != want {
			t.Errorf("%q became %q", message, got)
		}
	}
}

func TestErrorsLoseWhatSaysNothing(t *testing.T) {
	for text, want := range map[string]string{
		"unable to start container process: error during container init: mount x":                                                         "mount x",
		"unable to start container process: can't get final child's PID from pipe: EOF; runc init error(s): nsexec-1[5]: failed to setns": "failed to setns",
		"a\n\tb": "a b",
	} {
		if got := clean(text); got != want {
			t.Errorf("%q became %q", text, got)
		}
	}
}
