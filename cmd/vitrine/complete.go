package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/vitrine-runtime/vitrine/telemetry/api"
)

// completeTime bounds what a person waits for after the tab key.
const completeTime = 2 * time.Second

// completePods offers the names of the pods that there are.
func (o *options) completePods(cmd *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	return o.complete(cmd, args, begin, false)
}

// completeContainers offers the pods and, behind each, its containers.
func (o *options) completeContainers(cmd *cobra.Command, args []string, begin string) ([]string, cobra.ShellCompDirective) {
	return o.complete(cmd, args, begin, true)
}

func (o *options) complete(cmd *cobra.Command, args []string, begin string, containers bool) ([]string, cobra.ShellCompDirective) {
	if len(args) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	ctx, cancel := context.WithTimeout(cmd.Context(), completeTime)
	defer cancel()
	var pods []api.Pod
	if o.get(ctx, "/v1/pods", &pods) != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp // without a daemon there is nothing to offer
	}
	var offers []string
	for _, p := range pods {
		names := []string{p.Name}
		if containers {
			for _, c := range p.Containers {
				names = append(names, p.Name+"/"+c)
			}
		}
		for _, name := range names {
			if strings.HasPrefix(name, begin) {
				offers = append(offers, name)
			}
		}
	}
	return offers, cobra.ShellCompDirectiveNoFileComp
}
