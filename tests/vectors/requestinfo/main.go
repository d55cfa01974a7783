// Prints what Kubernetes' own code makes of a generated corpus of requests: test vectors for request_info.py.
//
//	go run . > vectors.jsonl 2> /dev/null
//
// Each request line goes through net/http's reader, as in the API server, and then through RequestInfoFactory with the
// prefixes of the API server. The same seed gives the same corpus.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"math/rand"
	"net/http"
	"net/url"
	"os"
	"path"
	"regexp"
	"strings"
	"unicode/utf8"

	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/apiserver/pkg/endpoints/request"
)

const size = 2500

// vector is one request and what Kubernetes understands. Plain: there is one way only to read the target.
type vector struct {
	Method    string     `json:"method"`
	Target    string     `json:"target"`
	Plain     bool       `json:"plain"`
	BadLabels bool       `json:"badLabels,omitempty"`
	Error     string     `json:"error,omitempty"`
	Path      string     `json:"path,omitempty"`
	Resource  bool       `json:"isResource,omitempty"`
	Verb      string     `json:"verb,omitempty"`
	Info      []string   `json:"info,omitempty"` // prefix, group, version, namespace, resource, subresource, name
	Parts     []string   `json:"parts,omitempty"`
	Selectors []string   `json:"selectors,omitempty"` // labels, fields
	Query     url.Values `json:"query,omitempty"`
}

var factory = request.RequestInfoFactory{
	APIPrefixes:          sets.NewString("api", "apis"),
	GrouplessAPIPrefixes: sets.NewString("api"),
}

var segment = regexp.MustCompile(`^[0-9A-Za-z._~!$&'()*+,;=:@/%-]*$`)

func understood(method, target string) vector {
	v := vector{Method: method, Target: target}
	head := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: gateway\r\n\r\n", method, target)
	req, err := http.ReadRequest(bufio.NewReader(strings.NewReader(head)))
	if err != nil {
		v.Error = "net/http"
		return v
	}
	info, err := factory.NewRequestInfo(req)
	if err != nil {
		v.Error = "RequestInfo"
		return v
	}
	v.Plain = plain(target, req.URL)
	if !v.Plain {
		return v
	}
	if _, err := labels.Parse(req.URL.Query().Get("labelSelector")); err != nil {
		v.BadLabels = true
	}
	v.Path, v.Resource, v.Verb, v.Parts = info.Path, info.IsResourceRequest, info.Verb, info.Parts
	v.Info = []string{info.APIPrefix, info.APIGroup, info.APIVersion, info.Namespace, info.Resource, info.Subresource, info.Name}
	v.Selectors = []string{info.LabelSelector, info.FieldSelector}
	v.Query = req.URL.Query()
	return v
}

func plain(target string, read *url.URL) bool {
	rawPath, rawQuery, _ := strings.Cut(target, "?")
	cleaned := path.Clean(read.Path)
	if read.Path != cleaned && read.Path != cleaned+"/" || strings.HasPrefix(rawPath, "//") {
		return false
	}
	if !segment.MatchString(rawPath) || strings.Count(rawPath, "/") != strings.Count(read.Path, "/") {
		return false
	}
	if strings.ContainsAny(read.Path, "%\\") || !utf8.ValidString(read.Path) {
		return false
	}
	for _, c := range read.Path {
		if c < ' ' || c == 0x7f {
			return false
		}
	}
	values, err := url.ParseQuery(rawQuery)
	if err != nil || strings.Contains(rawQuery, ";") {
		return false
	}
	for name, list := range values {
		for _, value := range append(list, name) {
			if !utf8.ValidString(value) || strings.Contains(value, "\x00") {
				return false
			}
		}
	}
	return true
}

var (
	methods = []string{"GET", "GET", "GET", "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "DELETE", "OPTIONS"}
	words   = []string{
		"api", "apis", "v1", "v1beta1", "apps", "rbac.authorization.k8s.io", "namespaces", "namespaces", "default",
		"kube-system", "pods", "nodes", "deployments", "services", "web", "status", "finalize", "scale", "exec", "log",
		"proxy", "watch", "eviction", "binding", "token", "serviceaccounts", "healthz", "version", "openapi", "v3", "livez",
		"metrics", "system%3Anode", "https:web:443", "a%20b", "%C3%A4", "~", "a+b", "A,b;c=d", "web.example.com",
	}
	odd = []string{
		"", ".", "..", "%2e", "%2E%2e", "%2f", "a%2Fb", "a%5cb", "a%25b", "%00", "%0a", "%ff", "%c0%af", "%", "%zz", "%1",
		"a\\b", "a#b", "{a}", "a|b", "\"", "<", "[", "]", "^", "`", "...", ".a", "a.", "*", "%7f", "%E2%80%A8", "@", ":",
	}
	starts = []string{
		"/api/v1", "/api/v1", "/apis/apps/v1", "/apis/batch/v1", "/apis", "/api", "", "/apis/rbac.authorization.k8s.io/v1",
	}
	forms = []string{
		"/namespaces/N/R", "/namespaces/N/R/M", "/namespaces/N/R/M/S", "/namespaces/N/R/M/S/T/T", "/R", "/R/M", "/R/M/S",
		"/namespaces", "/namespaces/N", "/namespaces/N/status", "/namespaces/N/finalize", "/namespaces/N/status/T",
		"/watch/R", "/watch/namespaces/N/R", "/watch/namespaces/N/R/M", "/watch", "/proxy", "/proxy/R/M/T",
		"/proxy/namespaces/N/R/M/T", "/watch/namespaces/N", "/watch/namespaces", "/watch/watch/R", "/proxy/watch/R", "/W",
		"/W/W", "/W/W/W", "/W/W/W/W", "", "/W/W/W/W/W/W",
	}
	resources    = []string{"pods", "deployments", "nodes", "services", "secrets", "widgets", "namespaces", "serviceaccounts"}
	names        = []string{"web", "web-0", "system%3Anode", "default", "namespaces", "pods", "watch", "proxy", "a.b.c", "status"}
	subresources = []string{"status", "scale", "exec", "log", "proxy", "eviction", "binding", "token", "finalize", "portforward"}
	values       = map[string][]string{
		"watch": {"true", "false", "1", "0", "", "FALSE", "False", "fal%C5%BFe", "no", "TRUE", "%30"},
		"fieldSelector": {
			"metadata.name=web", "metadata.name==web", "metadata.name%3Dweb", "metadata.name!=web", "metadata.name=",
			"metadata.name=web,spec.nodeName=n1", "spec.nodeName=n1", "metadata.name=b,metadata.name=a", "metadata.name",
			"metadata.name=a%5C,b", "metadata.name=a%5C%3Db", "metadata.name=a%5Cb", "metadata.name=a=b", "metadata.name=..",
			"metadata.name=a/b", "metadata.name=a%25b", ",metadata.name=web,", "x,metadata.name=web", "+metadata.name=web",
			"metadata.name=web%5C", "metadata.name=%C3%A4", "spec.a!=b,metadata.name=web", "metadata.namespace=default",
			"metadata.name=!=a", "metadata.name!==web", "!=metadata.name", "metadata.name===web", "a=b%5C,metadata.name=c",
		},
		"labelSelector": {
			"app=web", "app%3Dweb", "app", "!app", "app+in+(a,b)", "app+notin+(a)", "app=", "a=b,c!=d", "(", "a=b=c", "a+in+()",
			"a>1", "%00", "example.com/a=b",
		},
		"limit":           {"1", "500", "", "many", "-1", "9223372036854775807", "9223372036854775808", "+5", "1_0", "0x10"},
		"timeoutSeconds":  {"30", "", "x", "1.5"},
		"resourceVersion": {"0", "", "12"},
		"dryRun":          {"All", "", "all"},
		"pretty":          {"true"},
		"command":         {"ls", "sh+-c+%22a;b%22", "sh+-c+%22a%3Bb%22", "a%0Ab", "%ff", "%zz", "%", "a%26b"},
		"continue":        {"abc", "a%2Bb=="},
		"a%20b":           {"1"},
	}
	// In a fixed order: that of a map changes from run to run.
	parameters = []string{
		"watch", "watch", "fieldSelector", "fieldSelector", "fieldSelector", "labelSelector", "limit", "timeoutSeconds",
		"resourceVersion", "dryRun", "pretty", "command", "continue", "a%20b",
	}
)

func pick(r *rand.Rand, from []string) string { return from[r.Intn(len(from))] }

func generated(r *rand.Rand) (string, string) {
	form := []byte(pick(r, starts) + pick(r, forms))
	var target strings.Builder
	for _, letter := range string(form) {
		switch letter {
		case 'N':
			target.WriteString(pick(r, names))
		case 'R':
			target.WriteString(pick(r, resources))
		case 'M':
			target.WriteString(pick(r, names))
		case 'S':
			target.WriteString(pick(r, subresources))
		case 'T', 'W':
			target.WriteString(pick(r, words))
		default:
			target.WriteRune(letter)
		}
	}
	text := target.String()
	if text == "" {
		text = "/"
	}
	switch r.Intn(12) {
	case 0: // one segment is another one
		parts := strings.Split(text, "/")
		parts[1+r.Intn(len(parts)-1)] = pick(r, odd)
		text = strings.Join(parts, "/")
	case 1: // one more
		parts := strings.Split(text, "/")
		at := 1 + r.Intn(len(parts))
		parts = append(parts[:at], append([]string{pick(r, odd)}, parts[at:]...)...)
		text = strings.Join(parts, "/")
	case 2:
		text += "/"
	case 3:
		text = "/" + text
	}
	var query []string
	for i := r.Intn(4); i > 0; i-- {
		name := pick(r, parameters)
		query = append(query, name+"="+pick(r, values[name]))
	}
	if len(query) > 0 {
		text += "?" + strings.Join(query, "&")
	} else if r.Intn(20) == 0 {
		text += pick(r, []string{"?", "?&", "?=", "?watch", "?&&watch=1", "?a=b=c", "??", "?watch=1?", "?a;b"})
	}
	return pick(r, methods), text
}

func main() {
	r := rand.New(rand.NewSource(20261123))
	seen := map[string]bool{}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for len(seen) < size {
		method, target := generated(r)
		if key := method + " " + target; !seen[key] {
			seen[key] = true // a request once
			if err := encoder.Encode(understood(method, target)); err != nil {
				panic(err)
			}
		}
	}
}
