package telemetry

import "regexp"

// Secrets in text that libraries write: a registry's redirect to a signed URL, for
// example, stands whole in their errors and debug lines.
var (
	// urlSecrets are the user's part and the query of a URL.
	urlSecrets = regexp.MustCompile(`([a-zA-Z][a-zA-Z0-9+.-]*://)([^/\s"'@]*@)?([^\s"'?#]*)(\?[^\s"'#]*)?`)
	// schemeSecrets follow their scheme in a header's value.
	schemeSecrets = regexp.MustCompile(`(?i)\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}`)
)

// scrub removes users, passwords and queries from URLs, and credentials of the HTTP
// schemes Basic and Bearer, from text that is not ours.
func scrub(text string) string {
	text = urlSecrets.ReplaceAllString(text, "$1$3")
	return schemeSecrets.ReplaceAllString(text, "$1 ***")
}
