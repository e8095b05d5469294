// Package arbitrary makes messages that obey api.proto and nothing else, for tests that
// ask what a runtime does with requests that no kubelet would send: numbers at the ends
// of their range, sub-messages that are missing or empty, enumerations without a name,
// paths that lead elsewhere, text of a megabyte.
//
// What is made follows from the numbers that a Maker is given, so a failure can be made
// again, and a fuzzer can search.
package arbitrary
