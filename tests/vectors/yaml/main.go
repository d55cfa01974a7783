// Prints what the API server's reader of YAML makes of a generated corpus: test vectors for yaml_bodies.py.
//
//	go run . > vectors.jsonl
//
// A body of the type application/apply-patch+yaml goes through sigs.k8s.io/yaml, and so do these documents. The same
// seed gives the same corpus.
package main

import (
	"bufio"
	"encoding/json"
	"math/rand"
	"os"
	"strings"

	"sigs.k8s.io/yaml"
)

const size = 2500

// vector is one document and what Kubernetes reads: JSON, or nothing if it is refused.
type vector struct {
	YAML string          `json:"yaml"`
	JSON json.RawMessage `json:"json,omitempty"`
}

var (
	keys = []string{
		"a", "b", "metadata", "kubectl.kubernetes.io/last-applied-configuration", "app", "\"quoted\"", "'single'", "x-y",
		"spec", "n", "on", "yes", "1", "true", "null", "~", "3.5", "key with spaces", "ä", "\"\\u0061\"", "a", "0x1", "<<",
	}
	scalars = []string{
		"", "~", "null", "Null", "NULL", "nUll", "true", "True", "TRUE", "tRUE", "false", "yes", "Yes", "no", "NO", "on",
		"off", "y", "Y", "n", "N", "0", "-0", "+1", "1", "-1", "42", "007", "08", "0o17", "017", "0x1F", "0b101", "1_000",
		"9223372036854775807", "9223372036854775808", "123456789012345678", "1234567890123456789", "1.0", "1.5", "-0.25",
		".5", "5.", "1e3", "1E3", "1.5e3", "1.5e+3", "1e-2", ".inf", "-.Inf", ".NaN", "0.1", "100000000000000000.5",
		"1:30", "12:30:45", "190:20:30", "2026-11-23", "2026-11-23T10:00:00Z", "2026-11-23 10:00:00", "2026-1-2",
		"10.0.0.1", "1.2.3", "1.25", "v1", "100m", "1Gi", "0.5Gi", "1e3Mi", "8080:80", "127.0.0.1:80", "nginx:1.25",
		"a: b", "a:b", "a #c", "a#c", "#c", "plain words", "- a", "-a", "--flag=x", "?a", ":a", "a:", "@a", "%a", "!a",
		"!!str 1", "!!int \"1\"", "!!binary aGVsbG8=", "&x 1", "*x", "=", "<<", "|", ">", "'it''s'", "\"a\\n\\t\\x41\\u00e4\"",
		"\"\\/\"", "\"\\e\"", "'no'", "\"1\"", "'2026-11-23'", "[a, b]", "[a, 1, true, ~]", "{a: b}", "{a: 1, b: [c]}",
		"{a}", "[]", "{}", "{a: 1, a: 2}", "\"a\": b", "ä", "😀", "a\u00a0b", "a\u2028b", "\ufeffa", "{\"a\":1}", "[a b, c: d]",
		"1..2", "1.2.", "1,000", "1-2", "0-", "+", "-", ".", "..", "...", "---", "1e", "e1", "0e0", "0.0", "-1.50", "1.10",
		"0x", "0b2", "_1", "1_", "12e03", "+.inf", "- ", "True.", "nan", "inf", "~a", "Infinity",
	}
)

// forwarded is what a gateway sends for values that need care: JSON, to be read as YAML.
var forwarded = []string{
	`{"a":1.0e+22}`, `{"a":1.5e-7}`, `{"a":-0.25,"b":[1,2.5,true,false,null]}`, `{"a":"\u2028\u2029\u0085\u007f\ufeff"}`,
	`{"a":"\\ \" / \n\t\r\b\f\u0001"}`, `{"a":"ä€😀"}`, `{"a":"no","b":"1","c":"~","d":"2026-11-23","e":"1e22"}`,
	`{"yes":"x","1":"y","a: b":"z","#":"# w","":"v"}`, `{"a":{},"b":[],"c":[[],[{}]]}`, `{"a":9223372036854775807}`,
	`{"a":-9223372036854775808}`, `{"a":" leading","b":"trailing ","c":"two\nlines","d":"tab\t"}`, `{"a":0.00001}`,
}

func pick(r *rand.Rand, from []string) string { return from[r.Intn(len(from))] }

func document(r *rand.Rand, indent string, depth int) string {
	var text strings.Builder
	list := r.Intn(4) == 0
	for i := 1 + r.Intn(3); i > 0; i-- {
		if list {
			text.WriteString(indent + "-")
		} else {
			text.WriteString(indent + pick(r, keys) + ":")
		}
		switch deeper := depth > 0 && r.Intn(3) == 0; {
		case deeper:
			text.WriteString("\n" + document(r, indent+"  ", depth-1))
			continue
		case r.Intn(12) == 0:
			style := pick(r, []string{"|", ">", "|-", ">+", "|2", ">-"})
			text.WriteString(" " + style + "\n" + indent + "  one\n" + indent + "    two\n\n" + indent + "  three\n")
			continue
		case r.Intn(12) == 0:
			text.WriteString(" several words\n" + indent + "  on two lines\n")
			continue
		}
		text.WriteString(" " + pick(r, scalars) + pick(r, []string{"", "", "", "", " ", " # comment"}) + "\n")
	}
	return text.String()
}

func generated(r *rand.Rand) string {
	text := document(r, "", 2)
	switch r.Intn(30) {
	case 0:
		text = "---\n" + text
	case 1:
		text += "---\n" + document(r, "", 0)
	case 2:
		text += "...\n"
	case 3:
		text = "%YAML 1.1\n---\n" + text
	case 4:
		text = strings.ReplaceAll(text, "\n", "\r\n")
	case 5:
		text = strings.ReplaceAll(text, "  ", "\t")
	case 6:
		text = text[:r.Intn(len(text))]
	case 7:
		text = "# comment\n\n" + text
	}
	return text
}

func main() {
	r := rand.New(rand.NewSource(20261123))
	seen := map[string]bool{}
	out := bufio.NewWriter(os.Stdout)
	defer out.Flush()
	encoder := json.NewEncoder(out)
	encoder.SetEscapeHTML(false)
	for i := 0; len(seen) < size; i++ {
		text := generated(r)
		if i < len(forwarded) {
			text = forwarded[i]
		} else if i < len(forwarded)+len(scalars) {
			text = "a: " + scalars[i-len(forwarded)] + "\n"
		}
		if seen[text] {
			continue
		}
		seen[text] = true
		v := vector{YAML: text}
		if read, err := yaml.YAMLToJSON([]byte(text)); err == nil {
			v.JSON = read
		}
		if err := encoder.Encode(v); err != nil {
			panic(err)
		}
	}
}
