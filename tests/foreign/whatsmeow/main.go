// Puts an unmodified whatsmeow on the sandbox; see ../README.md for what it says and hears.
package main

import (
	"bufio"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"sync"

	"github.com/ncruces/go-sqlite3"
	"github.com/ncruces/go-sqlite3/driver"
	_ "github.com/ncruces/go-sqlite3/embed"
	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"go.mau.fi/whatsmeow"
	"go.mau.fi/whatsmeow/proto/waE2E"
	"go.mau.fi/whatsmeow/store"
	"go.mau.fi/whatsmeow/store/sqlstore"
	"go.mau.fi/whatsmeow/types"
	"go.mau.fi/whatsmeow/types/events"
	waLog "go.mau.fi/whatsmeow/util/log"
	"google.golang.org/protobuf/proto"
)

// longestLine is room for a command with a file.
const longestLine = 16 << 20

func main() {
	address := flag.String("address", "", "HOST:PORT of the network")
	root := flag.String("root", "", "its root key, in hex")
	folder := flag.String("store", "", "where the client keeps what it has to remember")
	flag.Parse()
	if err := run(context.Background(), *address, *root, *folder); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, address, root, folder string) error {
	// All that whatsmeow checks of the certificate chain it checks, only from another root.
	key, err := hex.DecodeString(root)
	if err != nil || len(key) != len(whatsmeow.WACertPubKey) {
		return errors.New("-root is not a key")
	}
	copy(whatsmeow.WACertPubKey[:], key)

	device, err := open(ctx, folder)
	if err != nil {
		return err
	}
	client := whatsmeow.NewClient(device, stderrLog{"client"})
	network := redirected(address)
	client.SetPreLoginHTTPClient(network)
	client.SetWebsocketHTTPClient(network)
	client.SetMediaHTTPClient(network)
	teller := &teller{encoder: json.NewEncoder(os.Stdout), heard: map[string]*events.Message{}, callers: map[string]types.JID{}}
	// What whatsmeow is built on prints to stdout, and that is ours.
	os.Stdout = os.Stderr
	client.AddEventHandler(func(event any) { teller.handle(ctx, client, event) })
	if err := client.Connect(); err != nil {
		return err
	}
	defer client.Disconnect()

	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, longestLine)
	for lines.Scan() {
		var command struct {
			Send  *message
			Say   *expression
			Group *act
			Call  *callAct
			Mark  *mark
		}
		if err := json.Unmarshal(lines.Bytes(), &command); err != nil {
			return err
		}
		if command.Send != nil {
			teller.send(ctx, client, command.Send)
		}
		if command.Say != nil {
			teller.express(ctx, client, command.Say)
		}
		if command.Group != nil {
			teller.act(ctx, client, command.Group)
		}
		if command.Call != nil {
			teller.reject(ctx, client, command.Call)
		}
		if command.Mark != nil {
			teller.mark(ctx, client, command.Mark)
		}
	}
	return lines.Err()
}

// open reads the device of the store, or makes the first one.
func open(ctx context.Context, folder string) (*store.Device, error) {
	// Nothing here has to outlive the machine, only the process.
	path := "file:" + filepath.Join(folder, "whatsmeow.db") + "?_pragma=foreign_keys(on)&_pragma=busy_timeout(10000)&_pragma=journal_mode(wal)&_pragma=synchronous(off)"
	cache, err := compiled()
	if err != nil {
		return nil, err
	}
	sqlite3.RuntimeConfig = wazero.NewRuntimeConfig().
		WithCoreFeatures(api.CoreFeaturesV2).
		WithCompilationCache(cache)
	db, err := driver.Open(path)
	if err != nil {
		return nil, err
	}
	container := sqlstore.NewWithDB(db, "sqlite3", stderrLog{"store"})
	if err := container.Upgrade(ctx); err != nil {
		return nil, err
	}
	return container.GetFirstDevice(ctx)
}

// compiled is where SQLite, which is WebAssembly here, stays translated: beside the program.
func compiled() (wazero.CompilationCache, error) {
	program, err := os.Executable()
	if err != nil {
		return nil, err
	}
	return wazero.NewCompilationCacheWithDir(program + ".cache")
}

// redirected makes a client that ends up at the network whatever host it asks for. The network speaks
// plainly on the loopback, so what would be inside TLS goes out as it is.
func redirected(address string) *http.Client {
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		var dialer net.Dialer
		return dialer.DialContext(ctx, network, address)
	}
	return &http.Client{Transport: &http.Transport{DialContext: dial, DialTLSContext: dial}}
}

// teller writes events to stdout.
type teller struct {
	lock    sync.Mutex
	encoder *json.Encoder
	// What can be quoted, reacted to and voted on, by id.
	heard map[string]*events.Message
	// Who calls, by the call's id.
	callers map[string]types.JID
}

func (t *teller) say(event string, fields map[string]any) {
	t.lock.Lock()
	defer t.lock.Unlock()
	fields["event"] = event
	if err := t.encoder.Encode(fields); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
}

// message is a text to send.
type message struct {
	To, Text string
	Mentions []string
	Quotes   string
}

func (t *teller) send(ctx context.Context, client *whatsmeow.Client, m *message) {
	content := &waE2E.Message{Conversation: proto.String(m.Text)}
	if m.Quotes != "" || len(m.Mentions) > 0 {
		about := &waE2E.ContextInfo{MentionedJID: m.Mentions}
		t.lock.Lock()
		quoted, known := t.heard[m.Quotes]
		t.lock.Unlock()
		if known {
			about.StanzaID = proto.String(m.Quotes)
			about.Participant = proto.String(quoted.Info.Sender.ToNonAD().String())
			about.QuotedMessage = quoted.Message
		}
		content = &waE2E.Message{ExtendedTextMessage: &waE2E.ExtendedTextMessage{
			Text: proto.String(m.Text), ContextInfo: about,
		}}
	}
	sent, err := client.SendMessage(ctx, chat(m.To), content)
	if err != nil {
		t.say("failed", map[string]any{"text": m.Text, "error": err.Error()})
		return
	}
	t.say("sent", map[string]any{"id": sent.ID, "text": m.Text})
}

// chat is a group by its JID or a person by number.
func chat(to string) types.JID {
	if jid, err := types.ParseJID(to); err == nil && jid.Server == types.GroupServer {
		return jid
	}
	return types.NewJID(to, types.DefaultUserServer)
}

func (t *teller) handle(ctx context.Context, client *whatsmeow.Client, event any) {
	switch event := event.(type) {
	case *events.QR:
		t.say("qr", map[string]any{"code": event.Codes[0]})
	case *events.Connected:
		t.say("open", map[string]any{"number": client.Store.ID.User})
	case *events.Disconnected:
		t.say("closed", map[string]any{"reason": "disconnected"})
	case *events.LoggedOut:
		t.say("ended", map[string]any{"reason": event.Reason})
	case *events.Message:
		t.tellContent(ctx, client, event)
		text := event.Message.GetConversation()
		if text == "" {
			text = event.Message.GetExtendedTextMessage().GetText()
		}
		if text != "" {
			from := number(ctx, client, event.Info.Sender, event.Info.SenderAlt)
			about := event.Message.GetExtendedTextMessage().GetContextInfo()
			fields := map[string]any{
				"id": event.Info.ID, "from": from, "text": text, "from_me": event.Info.IsFromMe,
				"mentions": about.GetMentionedJID(), "quotes": about.GetStanzaID(),
			}
			if event.Info.IsGroup {
				fields["group"] = event.Info.Chat.String()
			}
			t.say("message", fields)
		}
	case *events.JoinedGroup:
		t.tellJoined(ctx, client, event)
	case *events.GroupInfo:
		t.tellChange(ctx, client, event)
	case *events.CallOffer:
		t.tellCall(ctx, client, "offer", event.BasicCallMeta, event.Data)
	case *events.CallTerminate:
		what := "terminate"
		if event.Reason == "timeout" {
			what = event.Reason
		}
		t.tellCall(ctx, client, what, event.BasicCallMeta, nil)
	case *events.Star:
		t.tellStar(event.MessageID, event.Action.GetStarred())
	case *events.DeleteForMe:
		t.say("mark", map[string]any{"id": event.MessageID, "what": "delete_for_me"})
	case *events.Receipt:
		kinds := map[types.ReceiptType]string{
			types.ReceiptTypeDelivered: "delivered",
			types.ReceiptTypeRead:      "read",
		}
		if kind, known := kinds[event.Type]; known {
			for _, id := range event.MessageIDs {
				t.say("receipt", map[string]any{"id": id, "kind": kind})
			}
		}
	}
}

// number is the number behind one of the names of a user.
func number(ctx context.Context, client *whatsmeow.Client, names ...types.JID) string {
	for _, name := range names {
		if name.Server == types.DefaultUserServer {
			return name.User
		}
	}
	known, err := client.Store.LIDs.GetPNForLID(ctx, names[0])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return known.User
}

// stderrLog is whatsmeow's log on stderr.
type stderrLog struct{ part string }

func (l stderrLog) line(level, format string, args []any) {
	fmt.Fprintf(os.Stderr, "%s %s: %s\n", level, l.part, fmt.Sprintf(format, args...))
}

func (l stderrLog) Errorf(format string, args ...any) { l.line("error", format, args) }
func (l stderrLog) Warnf(format string, args ...any)  { l.line("warn", format, args) }
func (l stderrLog) Infof(format string, args ...any)  { l.line("info", format, args) }
func (l stderrLog) Debugf(format string, args ...any) { l.line("debug", format, args) }
func (l stderrLog) Sub(part string) waLog.Logger      { return stderrLog{l.part + "/" + part} }
