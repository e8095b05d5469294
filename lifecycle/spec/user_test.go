package spec

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	runtime "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/vitrine-runtime/vitrine/pod"
)

const testPasswd = `# a comment
root:x:0:0:root:/root:/bin/sh
broken line
web:x:1000:1001:Web:/srv:/bin/false
1002:x:7:8::/:/bin/sh
overflow:x:4294967296:0::/:
negative:x:-1:0::/:
high:x:4294967295:4294967295::/:
short:x:5
  spaced:x:1005:1005::/:
`

const testGroup = `root:x:0:root
web:x:1001:
extra:x:50000:web,alice
more:x:50001:alice,web
dup:x:50000:web
bad:x:5000000000:web
noname::
`

func TestUsersAreResolved(t *testing.T) {
	id := func(n int64) *runtime.Int64Value { return &runtime.Int64Value{Value: n} }
	type ctx = runtime.LinuxContainerSecurityContext
	strict := runtime.SupplementalGroupsPolicy_Strict
	for name, c := range map[string]struct {
		image    string
		security *ctx
		want     pod.User // zero with a text means an error
		text     string
	}{
		"nobody says anything":             {"", nil, pod.User{Groups: []uint32{0}}, ""},
		"image name":                       {"web", nil, pod.User{UID: 1000, GID: 1001, Groups: []uint32{1001, 50000, 50001}}, ""},
		"image number":                     {"1000", nil, pod.User{UID: 1000, GID: 1001, Groups: []uint32{1001, 50000, 50001}}, ""},
		"image unknown number":             {"4321", nil, pod.User{UID: 4321, Groups: []uint32{0}}, ""},
		"image number that is a name, too": {"1002", nil, pod.User{UID: 1002, Groups: []uint32{0}}, ""},
		"image with group name":            {"web:extra", nil, pod.User{UID: 1000, GID: 50000, Groups: []uint32{50000, 50001}}, ""},
		"image with group number":          {"1000:7", nil, pod.User{UID: 1000, GID: 7, Groups: []uint32{7, 50000, 50001}}, ""},
		"image group only":                 {":extra", nil, pod.User{UID: 0, GID: 50000, Groups: []uint32{50000, 0}}, ""},
		"image with empty group":           {"web:", nil, pod.User{UID: 1000, GID: 1001, Groups: []uint32{1001, 50000, 50001}}, ""},
		"image unknown name":               {"ghost", nil, pod.User{}, `"ghost"`},
		"image unknown group":              {"web:ghosts", nil, pod.User{}, `"ghosts"`},
		"image overflow":                   {"4294967296", nil, pod.User{}, `"4294967296"`},
		"image above int32":                {"2147483648:0", nil, pod.User{}, `"2147483648"`},
		"image negative":                   {"-1", nil, pod.User{}, `"-1"`},
		"image plus":                       {"0:+5", nil, pod.User{}, `"+5"`},
		"image line break":                 {"web\nroot", nil, pod.User{}, `"web\nroot"`},
		"image two colons":                 {"a:b:c", nil, pod.User{}, `"a:b:c"`},
		"name with overflowing line":       {"overflow", nil, pod.User{}, `"overflow"`},
		"name with negative line":          {"negative", nil, pod.User{}, `"negative"`},
		"name with high line":              {"high", nil, pod.User{}, `"high"`},

		"kubelet repeats the image's user": {"1000:7", &ctx{RunAsUser: id(1000)}, pod.User{UID: 1000, GID: 7, Groups: []uint32{7, 50000, 50001}}, ""},
		"another user than the image's":    {"1000:7", &ctx{RunAsUser: id(0)}, pod.User{Groups: []uint32{0}}, ""},
		"uid and group":                    {"web", &ctx{RunAsUser: id(1000), RunAsGroup: id(9)}, pod.User{UID: 1000, GID: 9, Groups: []uint32{9, 50000, 50001}}, ""},
		"group 0 is a group":               {"", &ctx{RunAsUser: id(1000), RunAsGroup: id(0)}, pod.User{UID: 1000, GID: 0, Groups: []uint32{0, 50000, 50001}}, ""},
		"username":                         {"", &ctx{RunAsUsername: "web"}, pod.User{UID: 1000, GID: 1001, Groups: []uint32{1001, 50000, 50001}}, ""},
		"username and image's group":       {"web:extra", &ctx{RunAsUsername: "web"}, pod.User{UID: 1000, GID: 50000, Groups: []uint32{50000, 50001}}, ""},
		"username that is a number":        {"", &ctx{RunAsUsername: "1002"}, pod.User{UID: 7, GID: 8, Groups: []uint32{8}}, ""},
		"username after blanks":            {"", &ctx{RunAsUsername: "spaced"}, pod.User{UID: 1005, GID: 1005, Groups: []uint32{1005}}, ""},
		"username unknown":                 {"", &ctx{RunAsUsername: "ghost"}, pod.User{}, `"ghost"`},
		"username of digits unknown":       {"", &ctx{RunAsUsername: "1000"}, pod.User{}, `"1000"`},
		"username with colon":              {"", &ctx{RunAsUsername: "web:extra"}, pod.User{}, `"web:extra"`},
		"both":                             {"", &ctx{RunAsUsername: "web", RunAsUser: id(0)}, pod.User{}, "exclude"},
		"group alone":                      {"web", &ctx{RunAsGroup: id(5)}, pod.User{}, "run_as_group: 5 needs"},
		"negative uid":                     {"", &ctx{RunAsUser: id(-1)}, pod.User{}, "run_as_user: -1"},
		"overflowing uid":                  {"", &ctx{RunAsUser: id(1 << 32)}, pod.User{}, "run_as_user: 4294967296"},
		"uid above int32":                  {"", &ctx{RunAsUser: id(1 << 31)}, pod.User{}, "run_as_user: 2147483648"},
		"highest uid":                      {"", &ctx{RunAsUser: id(1<<31 - 1)}, pod.User{UID: 1<<31 - 1, Groups: []uint32{0}}, ""},
		"negative gid":                     {"", &ctx{RunAsUser: id(1), RunAsGroup: id(-2)}, pod.User{}, "run_as_group: -2"},
		"merge":                            {"web", &ctx{SupplementalGroups: []int64{60000, 50000}}, pod.User{UID: 1000, GID: 1001, Groups: []uint32{1001, 50000, 50001, 60000}}, ""},
		"strict":                           {"web", &ctx{SupplementalGroups: []int64{60000}, SupplementalGroupsPolicy: strict}, pod.User{UID: 1000, GID: 1001, Groups: []uint32{1001, 60000}}, ""},
		"strict without groups":            {"web", &ctx{SupplementalGroupsPolicy: strict}, pod.User{UID: 1000, GID: 1001, Groups: []uint32{1001}}, ""},
		"negative supplemental group":      {"", &ctx{SupplementalGroups: []int64{5, -1}}, pod.User{}, "supplemental_groups[1]: -1"},
		"overflowing supplemental group":   {"", &ctx{SupplementalGroups: []int64{1 << 32}}, pod.User{}, "supplemental_groups[0]"},
		"unknown policy":                   {"", &ctx{SupplementalGroupsPolicy: 5}, pod.User{}, "supplemental_groups_policy"},
		"too many supplemental groups":     {"", &ctx{SupplementalGroups: manyGroups(65537)}, pod.User{}, "65538"},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ResolveUser(strings.NewReader(testPasswd), strings.NewReader(testGroup), c.image, c.security)
			if c.text != "" {
				if !errors.Is(err, pod.ErrInvalid) || !strings.Contains(err.Error(), c.text) || strings.Contains(err.Error(), "\n") {
					t.Fatalf("%+v, %v", got, err)
				}
				return
			}
			if err != nil || got.UID != c.want.UID || got.GID != c.want.GID || !slices.Equal(got.Groups, c.want.Groups) {
				t.Errorf("got %+v, %v, want %+v", got, err, c.want)
			}
		})
	}
}

func manyGroups(n int) []int64 {
	list := make([]int64, n)
	for i := range list {
		list[i] = int64(i + 1)
	}
	return list
}

func TestAnImageWithoutFilesHasNumbersOnly(t *testing.T) {
	if u, err := ResolveUser(nil, nil, "12:34", nil); err != nil || u.UID != 12 || u.GID != 34 {
		t.Errorf("%+v, %v", u, err)
	}
	if _, err := ResolveUser(nil, nil, "web", nil); !errors.Is(err, pod.ErrInvalid) {
		t.Error(err)
	}
}

// endless is a reader like /dev/zero or an enormous sparse file.
type endless struct {
	text string
	read int
}

func (e *endless) Read(p []byte) (int, error) {
	n := copy(p, strings.Repeat(e.text, len(p)/len(e.text)+1))
	e.read += n
	return n, nil
}

func TestEndlessFilesAreBounded(t *testing.T) {
	for name, text := range map[string]string{"one line": "\x00", "many lines": "a:x:1:1::/:\n"} {
		start := time.Now()
		source := &endless{text: text}
		_, err := ResolveUser(source, nil, "nobody", nil)
		if !errors.Is(err, pod.ErrInvalid) || source.read > maxPasswdFile+1 {
			t.Errorf("%s: read %d bytes, %v", name, source.read, err)
		}
		source.read = 0
		if _, err = ResolveUser(nil, source, "0:nobody", nil); !errors.Is(err, pod.ErrInvalid) || source.read > maxPasswdFile+1 {
			t.Errorf("%s as group: read %d bytes, %v", name, source.read, err)
		}
		if time.Since(start) > 20*time.Second {
			t.Errorf("%s: took %v", name, time.Since(start))
		}
	}
	if _, err := ResolveUser(failing{}, nil, "web", nil); !errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, pod.ErrInvalid) {
		t.Errorf("a read error is the host's fault: %v", err)
	}
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func FuzzResolveUser(f *testing.F) {
	f.Add(testPasswd, testGroup, "web:extra", "", int64(-1), int64(5))
	f.Add("a:x:0:0", "a:x:1:a", "a", "a", int64(0), int64(-1))
	f.Fuzz(func(t *testing.T, passwd, group, image, username string, uid, gid int64) {
		// property: nobody becomes root or gets group 0 who did not name it, no line does
		// and nothing was left open; ids stay in range
		security := &runtime.LinuxContainerSecurityContext{RunAsUsername: username}
		if uid != -1 {
			security.RunAsUser = &runtime.Int64Value{Value: uid}
		}
		if gid != -1 {
			security.RunAsGroup = &runtime.Int64Value{Value: gid}
		}
		u, err := ResolveUser(strings.NewReader(passwd), strings.NewReader(group), image, security)
		if err != nil {
			if !errors.Is(err, pod.ErrInvalid) {
				t.Fatalf("%v", err)
			}
			return
		}
		if u.UID > maxID || u.GID > maxID || len(u.Groups) == 0 || u.Groups[0] != u.GID {
			t.Fatalf("%+v", u)
		}
		if uid > 0 && int64(u.UID) != uid || gid >= 0 && int64(u.GID) != gid {
			t.Fatalf("asked for %d:%d, got %+v", uid, gid, u)
		}
		if u.UID == 0 && uid == -1 && username != "" && !strings.Contains(passwd, username) {
			t.Fatalf("%q became root", username)
		}
	})
}

func FuzzParseUser(f *testing.F) {
	for _, s := range []string{"", "1", "a:b", "-1", ":", "a:", "4294967296:1", "1:+2", "٣"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) { // property: what is accepted is written back as it came, less an empty group
		u, err := ParseUser(s)
		if err != nil {
			return
		}
		back := u.User
		if u.HasGroup {
			back += ":" + u.Group
		}
		if strings.TrimSuffix(s, ":") != back && s != back {
			t.Fatalf("%q → %+v", s, u)
		}
	})
}
