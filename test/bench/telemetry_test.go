package main

import (
	"fmt"
	"math/rand/v2"
	"testing"
)

func TestADifferenceIsToldApartFromTheMachinesMoods(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4))
	same, slower, base := make([]float64, 400), make([]float64, 400), make([]float64, 400)
	for i := range base {
		mood := 50 * (1 + random.ExpFloat64()) // of the machine, in one round
		base[i], same[i], slower[i] = mood*(1+0.01*random.Float64()), mood*(1+0.01*random.Float64()), 1.1*mood*(1+0.01*random.Float64())
	}
	interval := func(a []float64) (at, from, to float64) {
		text := difference(a, base, 0.5)
		if _, err := fmt.Sscanf(text, "%f%% (%f to %f)", &at, &from, &to); err != nil {
			t.Fatalf("%s: %v", text, err)
		}
		return at, from, to
	}
	if at, from, to := interval(same); from > 0 || to < 0 || at < from || at > to {
		t.Errorf("the control: %.1f (%.1f to %.1f)", at, from, to)
	}
	if at, from, to := interval(slower); from < 5 || to > 15 || at < from || at > to {
		t.Errorf("a tenth slower: %.1f (%.1f to %.1f)", at, from, to)
	}
}
