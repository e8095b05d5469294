package cri

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/vitrine-runtime/vitrine/pod"
)

// maxErrorText bounds the message of an error, in bytes: it travels in an HTTP/2
// header, and clients refuse large ones together with their code.
const maxErrorText = 4096

// kubeletPrefixes are errors that kubelet recognizes by how their text begins. It
// does so only for code Unknown, whose "rpc error: code = …" it strips first.
var kubeletPrefixes = []error{
	pod.ErrRegistryUnavailable, pod.ErrSignatureValidationFailed, pod.ErrRROUnsupported, pod.ErrImageVolumeMountFailed,
}

// grpcError chooses the code of an error, here and nowhere else.
//
//	the request is wrong            InvalidArgument
//	unknown object                  NotFound
//	the attempt exists already      AlreadyExists
//	not in this state               FailedPrecondition (exec in a container that has ended, too)
//	refused by policy or registry   PermissionDenied
//	a bound was hit                 ResourceExhausted
//	this host or build cannot       Unimplemented
//	timeout, client's or exec's     DeadlineExceeded
//	try again                       Unavailable
//	a panic of ours                 Internal
//	anything else                   Unknown, which kubelet shows without a code
func grpcError(err error) error {
	if err == nil {
		return nil
	}
	if _, ok := err.(interface{ GRPCStatus() *status.Status }); ok {
		return err
	}
	for _, prefix := range kubeletPrefixes {
		if errors.Is(err, prefix) {
			return status.Error(codes.Unknown, begin(prefix.Error(), err.Error()))
		}
	}
	code := codes.Unknown
	switch {
	case errors.Is(err, pod.ErrInvalid):
		code = codes.InvalidArgument
	case errors.Is(err, pod.ErrDeadline), errors.Is(err, context.DeadlineExceeded):
		code = codes.DeadlineExceeded
	case errors.Is(err, context.Canceled):
		code = codes.Canceled
	case errors.Is(err, pod.ErrUnavailable):
		code = codes.Unavailable
	case errors.Is(err, pod.ErrNotFound):
		code = codes.NotFound
	case errors.Is(err, pod.ErrExists):
		code = codes.AlreadyExists
	case errors.Is(err, pod.ErrState):
		code = codes.FailedPrecondition
	case errors.Is(err, pod.ErrDenied):
		code = codes.PermissionDenied
	case errors.Is(err, pod.ErrExhausted):
		code = codes.ResourceExhausted
	case errors.Is(err, pod.ErrUnsupported):
		code = codes.Unimplemented
	case errors.Is(err, pod.ErrBug):
		code = codes.Internal
	}
	return status.Error(code, oneLine(err.Error()))
}

// begin moves prefix to the front of text.
func begin(prefix, text string) string {
	text = oneLine(text)
	if strings.HasPrefix(text, prefix) {
		return text
	}
	text = strings.Replace(text, prefix+": ", "", 1)
	return oneLine(prefix + ": " + strings.TrimSuffix(text, ": "+prefix))
}

// oneLine makes text fit for a person's terminal and a header: one line of valid
// UTF-8 and bounded length.
func oneLine(text string) string {
	text = strings.ToValidUTF8(text, "\uFFFD")
	lines := strings.FieldsFunc(text, func(r rune) bool { return r == '\n' || r == '\r' })
	text = strings.Join(lines, "; ")
	if len(text) <= maxErrorText {
		return text
	}
	cut := maxErrorText - 64
	for !utf8.RuneStart(text[cut]) {
		cut--
	}
	return fmt.Sprintf("%s… (%d bytes more)", text[:cut], len(text)-cut)
}
