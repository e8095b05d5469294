package launch

import "testing"

func TestExecErrorExplainsWhatTheInitWrote(t *testing.T) {
	for text, want := range map[string]Error{
		"exec /bin/odd: exec format error\n":           {Kind: KindNotExecutable, Message: `exec "/bin/odd": exec format error`},
		"exec /bin/x: permission denied":               {Kind: KindNotExecutable, Message: `exec "/bin/x": permission denied`},
		"exec /a b: c: no such file or directory":      {Kind: KindNotFound, Message: `exec "/a b: c": no such file or directory (its interpreter or dynamic loader is missing)`},
		"error running startContainer hook #0: exit\n": {Kind: KindInternal, Message: "error running startContainer hook #0: exit"},
		"two\nlines": {Kind: KindInternal, Message: "two lines"},
	} {
		got := ExecError(text)
		if got == nil || got.Kind != want.Kind || got.Message != want.Message || got.Step == "" {
			t.Errorf("%q: got %+v", text, got)
		}
	}
	if got := ExecError(" \n"); got != nil {
		t.Errorf("nothing: got %+v", got)
	}
}

func TestLookupErrorIsFoundInsideAnErrorsText(t *testing.T) {
	for text, want := range map[string]Error{
		`a: b: exec: "x": executable file not found in $PATH`:        {Kind: KindNotFound, Message: `exec "x": executable file not found in $PATH`},
		`a: exec: "/x": stat /x: no such file or directory`:          {Kind: KindNotFound, Message: `exec "/x": no such file or directory`},
		`exec: "/etc": is a directory`:                               {Kind: KindNotExecutable, Message: `exec "/etc": is a directory`},
		`exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory`: {Kind: KindNotFound, Message: `exec "/etc/passwd/x": not a directory`},
	} {
		if got := LookupError(text); got == nil || got.Kind != want.Kind || got.Message != want.Message {
			t.Errorf("%q: got %+v", text, got)
		}
	}
	for _, text := range []string{"", "exec", `exec: "`, `exec: "x"`, `exec: "x": something else`} {
		if got := LookupError(text); got != nil {
			t.Errorf("%q: got %+v", text, got)
		}
	}
}
