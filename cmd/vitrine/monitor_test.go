package main

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
)

func TestMonitorUpgradeTellsOfEachAndFailsWithAny(t *testing.T) {
	answers := map[string]string{
		"id=":  "",
		"id=a": `{"containerId":"0123456789abcdef","container":"web","build":"v2"}` + "\n",
		"id=b": `{"containerId":"0123456789abcdef","container":"web","build":"v2"}` + "\n" + `{"containerId":"fedcba9876543210","container":"db","error":"no such file"}` + "\n",
	}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/monitors/upgrade", func(w http.ResponseWriter, r *http.Request) {
		id := r.URL.Query().Get("id")
		if id == "gone" {
			w.WriteHeader(http.StatusNotFound)
			fmt.Fprint(w, `{"error":"upgrade monitors: not found"}`)
			return
		}
		fmt.Fprint(w, answers["id="+id])
	})
	state := daemon(t, mux)
	for _, test := range []struct {
		args   []string
		out    string
		errors string
		code   int
	}{
		{[]string{"--all"}, "0 monitors upgraded\n", "", 0},
		{[]string{"a"}, "0123456789abc  web  now runs v2\n1 monitors upgraded\n", "", 0},
		{[]string{"b"}, "0123456789abc  web  now runs v2\nfedcba9876543  db  keeps its program: no such file\n", "1 of 2 monitors keep their program", 1},
		{[]string{"gone"}, "", "not found", 1},
		{nil, "", "--all", 1},
		{[]string{"a", "--all"}, "", "--all", 1},
	} {
		out, problems, code := vitrine(t, append([]string{"--state", state, "monitor", "upgrade"}, test.args...)...)
		if out != test.out || code != test.code || !strings.Contains(problems, test.errors) {
			t.Errorf("%v: %q, %q, %d", test.args, out, problems, code)
		}
	}
}
