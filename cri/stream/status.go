package stream

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
)

// status is how a session ended, in the form of a Kubernetes meta/v1 Status, which
// clients since version 4 of the protocol parse for the exit code.
type status struct {
	Status  string   `json:"status"`
	Message string   `json:"message,omitempty"`
	Reason  string   `json:"reason,omitempty"`
	Details *details `json:"details,omitempty"`
	Code    int      `json:"code,omitempty"`
}

type details struct {
	Causes []cause `json:"causes"`
}

type cause struct {
	Type    string `json:"reason"`
	Message string `json:"message"`
}

// exited is the status of a command that ran, or of an attach that ended (code 0).
func exited(code int32) status {
	if code == 0 {
		return status{Status: "Success"}
	}
	return status{
		Status:  "Failure",
		Reason:  remotecommand.NonZeroExitCodeReason,
		Message: fmt.Sprintf("command terminated with non-zero exit code: exit status %d", code),
		Details: &details{[]cause{{remotecommand.ExitCodeCauseType, strconv.Itoa(int(code))}}},
	}
}

// failed is the status of a session that could not be carried out.
func failed(err error) status {
	return status{
		Status: "Failure", Reason: "InternalError", Code: http.StatusInternalServerError,
		Message: "Internal error occurred: " + err.Error(),
	}
}

// structured is the form of protocol version 4 and later.
func (s status) structured() []byte {
	text, err := json.Marshal(s)
	if err != nil {
		panic(err) // a struct of strings and numbers
	}
	return text
}

// plain is the form of older versions: nothing for success, else the message.
func (s status) plain() []byte {
	if s.Status == "Success" {
		return nil
	}
	return []byte(s.Message)
}
