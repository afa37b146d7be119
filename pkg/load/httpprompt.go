package load

import (
	"fmt"
	"math/rand/v2"
	"net/url"
	"strings"
)

// Endpoint is where completions are asked for, from the address of a server
// ("http://localhost:8000"), of its API ("…/v1") or of the endpoint itself.
// With chat it is that of conversations. An address that has a password is an
// error: it would be kept with the events.
func Endpoint(address string, chat bool) (string, error) {
	u, err := url.Parse(address)
	switch {
	case err != nil:
		return "", err
	case u.Scheme != "http" && u.Scheme != "https" || u.Host == "":
		return "", fmt.Errorf("%q is no address of a server: want http://HOST:PORT", address)
	case u.User != nil:
		return "", fmt.Errorf("the address has a user: it would be kept with the events")
	}
	path := strings.TrimRight(u.Path, "/")
	if !strings.HasSuffix(path, "/completions") {
		if path == "" {
			path = "/v1"
		}
		if chat {
			path += "/chat"
		}
		path += "/completions"
	}
	u.Path = path
	return u.String(), nil
}

// chat says whether the endpoint is that of conversations.
func (h *HTTP) chat() bool {
	u, err := url.Parse(h.URL)
	return err == nil && strings.HasSuffix(u.Path, "/chat/completions")
}

// words are common ones; with the space before it each is one token in the
// vocabularies of GPT-2, Llama, Qwen and Mistral.
var words = strings.Fields(`
	the of and to in is that for it was on are as with his they at be this from
	have or by one had not but what all were when we there can an your which their
	said if do will each about how up out them then she many some so these would
	other into has more her two like him see time could no make than first been its
	who now people my made over did down only way find use may water long little
	very after called just where most know get through back much before go good new
	write our me man too any day same right look think also around another came come
	work three word must because does part even place well such here take why things
	help put years different away again off went old number great tell men say small
	every found still between name should home big give air line set own under read
	last never us left end along while might next sound below saw something thought
	both few those always looked show large often together asked house world going
	want school important until form food keep children feet land side without boy
	once animals life enough took sometimes four head above kind began almost live`)

// Words are prompts of so many words, drawn anew for each request: what a
// server has kept of one prompt is of no use to it for another.
func Words(seed uint64, count int) func(n int) string {
	return func(n int) string {
		dice := rand.New(rand.NewPCG(seed, uint64(n)))
		var b strings.Builder
		for i := range count {
			if i > 0 {
				b.WriteByte(' ')
			}
			b.WriteString(words[dice.IntN(len(words))])
		}
		return b.String()
	}
}
