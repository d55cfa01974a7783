// A session of golang.org/x/crypto/ssh, as an agent would have it. The server comes from the SSH_… variables.
package main

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
)

type step struct {
	Step string `json:"step"`
	Saw  any    `json:"saw"`
}

var steps []step

func saw(name string, what any) { steps = append(steps, step{name, what}) }

func must[T any](value T, err error) T {
	if err != nil {
		log.Fatalf("after %d steps: %v", len(steps), err)
	}
	return value
}

func check(err error) { must(0, err) }

func ended(err error) any {
	var exit *ssh.ExitError
	if errors.As(err, &exit) {
		return []any{exit.ExitStatus(), exit.Signal(), exit.Msg()}
	}
	if err != nil {
		return err.Error()
	}
	return 0
}

func commands(client *ssh.Client) {
	for _, command := range []string{"echo out; echo err >&2; exit 7", "true", "kill -KILL $$", "no-such-program"} {
		session := must(client.NewSession())
		var out, err bytes.Buffer
		session.Stdout, session.Stderr = &out, &err
		how := ended(session.Run(command))
		saw(command, []any{how, out.String(), err.String()})
	}
	bulk := bytes.Repeat([]byte("0123456789abcdef"), 200_000)
	session := must(client.NewSession())
	session.Stdin = bytes.NewReader(bulk)
	saw("both ways", sha256.Sum256(must(session.Output("cat"))) == sha256.Sum256(bulk))

	session = must(client.NewSession())
	saw("environment", ended(session.Setenv("GREETING", "hello")))
	saw("is there", string(must(session.Output("echo $GREETING"))))

	session = must(client.NewSession())
	check(session.RequestPty("xterm", 17, 91, ssh.TerminalModes{ssh.ECHO: 0, ssh.TTY_OP_ISPEED: 14400, ssh.TTY_OP_OSPEED: 14400}))
	in := must(session.StdinPipe())
	out := must(session.StdoutPipe())
	check(session.Start("stty size; read a; stty size; exit 4"))
	line := make([]byte, 7)
	must(io.ReadFull(out, line))
	check(session.WindowChange(40, 120))
	must(in.Write([]byte("\n")))
	rest := string(must(io.ReadAll(out)))
	saw("a terminal", []any{string(line), strings.TrimSpace(rest), ended(session.Wait())})

	session = must(client.NewSession())
	check(session.RequestPty("xterm", 24, 80, ssh.TerminalModes{}))
	session.Stdin = strings.NewReader("PS1=\nexit 6\n")
	check(session.Shell())
	saw("a shell", ended(session.Wait()))

	session = must(client.NewSession())
	saw("an unknown subsystem", ended(session.RequestSubsystem("nonsense")))
	session.Close()

	var group sync.WaitGroup
	found := make([]string, 50)
	for number := range found {
		group.Go(func() {
			session := must(client.NewSession())
			out, err := session.CombinedOutput(fmt.Sprintf("seq %d 2000 | tail -n 1; exit %d", number, number))
			found[number] = fmt.Sprint(string(out), ended(err))
		})
	}
	group.Wait()
	saw("at a time", found)
}

func upper(listener net.Listener) {
	for {
		caller, err := listener.Accept()
		if err != nil {
			return
		}
		go func() {
			defer caller.Close()
			data, _ := io.ReadAll(caller)
			caller.Write(bytes.ToUpper(data))
		}()
	}
}

func ask(caller net.Conn, words string) string {
	defer caller.Close()
	must(caller.Write([]byte(words)))
	check(caller.(interface{ CloseWrite() error }).CloseWrite())
	return string(must(io.ReadAll(caller)))
}

func forwards(client *ssh.Client) {
	server := must(net.Listen("tcp", "127.0.0.1:0"))
	go upper(server)
	saw("direct-tcpip", ask(must(client.Dial("tcp", server.Addr().String())), "through"))
	_, err := client.Dial("tcp", "127.0.0.1:1")
	saw("nobody listens", ended(err))
	remote := must(client.Listen("tcp", "127.0.0.1:0"))
	go upper(remote)
	saw("forwarded-tcpip", ask(must(net.Dial("tcp", remote.Addr().String())), "and back"))
	check(remote.Close())
	_, err = net.Dial("tcp", remote.Addr().String())
	saw("closed", err != nil)

	place := os.Getenv("FILES") + "/socket"
	unix := must(client.ListenUnix(place))
	go upper(unix)
	saw("streamlocal", ask(must(client.Dial("unix", place)), "both ways at once"))
	check(unix.Close())
}

func main() {
	key, _, _, _, err := ssh.ParseAuthorizedKey([]byte(os.Getenv("SSH_HOST_KEY")))
	check(err)
	config := &ssh.ClientConfig{User: os.Getenv("SSH_USER"), HostKeyCallback: ssh.FixedHostKey(key), Timeout: time.Minute}
	config.HostKeyAlgorithms = []string{key.Type()}
	config.Config.RekeyThreshold = 1_000_000
	password := os.Getenv("SSH_PASSWORD")
	if password != "" {
		config.Auth = []ssh.AuthMethod{ssh.Password(password)}
	} else {
		signer := must(ssh.ParsePrivateKey(must(os.ReadFile(os.Getenv("SSH_KEY")))))
		config.Auth = []ssh.AuthMethod{ssh.PublicKeys(signer)}
	}
	address := net.JoinHostPort(os.Getenv("SSH_HOST"), os.Getenv("SSH_PORT"))
	client := must(ssh.Dial("tcp", address, config))
	commands(client)
	forwards(client)
	_, _, err = client.SendRequest("keepalive@openssh.com", true, nil)
	saw("keepalive", ended(err))
	check(client.Close())
	if password != "" {
		config.Auth = []ssh.AuthMethod{ssh.KeyboardInteractive(func(_, _ string, questions []string, _ []bool) ([]string, error) {
			answers := make([]string, len(questions))
			for index := range answers {
				answers[index] = password
			}
			return answers, nil
		})}
		client = must(ssh.Dial("tcp", address, config))
		session := must(client.NewSession())
		saw("keyboard-interactive", string(must(session.Output("echo asked and answered"))))
		client.Close()
	}
	check(json.NewEncoder(os.Stdout).Encode(map[string]any{"client": "go", "steps": steps}))
}
