package main

import (
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"
)

func TestTheCPUClockIsThatOfTheProcess(t *testing.T) {
	before, err := cpuClock(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	const busy = 30 * time.Millisecond
	for from := before; from-before < busy; { // on its own clock, however busy the machine is
		if from, err = cpuClock(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	other, err := cpuClock(1)
	if err != nil {
		t.Fatal(err)
	}
	if after, err := cpuClock(os.Getpid()); err != nil || after < before+busy || other == after {
		t.Errorf("%v, then %v, and init %v: %v", before, after, other, err)
	}
	if _, err := cpuClock(1 << 22); err == nil { // beyond the greatest pid there can be
		t.Error("a process that is not there has a clock")
	}
}

func TestModesAreComparedWithThoseThatTookPart(t *testing.T) {
	ups := [][]float64{{10, 20, 30}, {20, 40, 60}}
	var b strings.Builder
	if err := printTelemetry(&b, []string{modeOff, modeAbsent}, ups, ups); err != nil {
		t.Fatal(err)
	}
	if text := b.String(); strings.Count(text, "+100.0%") != 3 || strings.Contains(text, "to on") || !strings.Contains(text, "3 pods each") {
		t.Errorf("%s", text)
	}
}

func TestADifferenceIsToldApartFromTheMachinesMoods(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	same, slower, base := make([]float64, 400), make([]float64, 400), make([]float64, 400)
	for i := range base {
		mood := 50 * (1 + random.ExpFloat64()) // of the machine, in one round
		base[i], same[i], slower[i] = mood*(1+0.01*random.Float64()), mood*(1+0.01*random.Float64()), 1.1*mood*(1+0.01*random.Float64())
	}
	interval := func(a []float64) (by, from, to float64) {
		text := difference(a, base, at(0.5))
		if _, err := fmt.Sscanf(text, "%f%% (%f to %f)", &by, &from, &to); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return by, from, to
	}
	if by, from, to := interval(same); from > 0 || to < 0 || by < from || by > to {
		t.Errorf("the control: %.1f (%.1f to %.1f)", by, from, to)
	}
	if by, from, to := interval(slower); from < 5 || to > 15 || by < from || by > to {
		t.Errorf("a tenth slower: %.1f (%.1f to %.1f)", by, from, to)
	}
}
