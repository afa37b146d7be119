package main

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
)

// completions is a server of the OpenAI kind for the scripts. Its address is in
// the file that is its argument when it listens. It answers a prompt with three
// tokens, fails for the model broken, and never ends for the model endless.
func completions() {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err == nil {
		err = os.WriteFile(os.Args[1]+".new", []byte("http://"+l.Addr().String()), 0o600)
	}
	if err == nil {
		err = os.Rename(os.Args[1]+".new", os.Args[1])
	}
	if err == nil {
		err = http.Serve(l, http.HandlerFunc(complete))
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

func complete(w http.ResponseWriter, r *http.Request) {
	body := make([]byte, r.ContentLength)
	if _, err := r.Body.Read(body); len(body) == 0 {
		http.Error(w, fmt.Sprint(err), http.StatusBadRequest)
		return
	}
	text := string(body)
	piece := `{"id":"1","choices":[{"text":" word"}]}`
	if strings.HasSuffix(r.URL.Path, "/chat/completions") {
		piece = `{"id":"1","choices":[{"delta":{"content":" word"}}]}`
	}
	switch {
	case strings.Contains(text, `"model":"broken"`):
		http.Error(w, `{"error":{"message":"the model is broken"}}`, http.StatusServiceUnavailable)
		return
	case strings.Contains(text, `"model":"locked"`) && r.Header.Get("Authorization") != "Bearer sesame":
		http.Error(w, `{"error":"who are you"}`, http.StatusUnauthorized)
		return
	}
	w.Header().Set("Content-Type", "text/event-stream")
	send := func(line string) {
		fmt.Fprintf(w, "data: %s\n\n", line)
		w.(http.Flusher).Flush()
	}
	for range 3 {
		send(piece)
	}
	if strings.Contains(text, `"model":"endless"`) {
		<-r.Context().Done()
		return
	}
	if !strings.Contains(text, `"model":"silent"`) {
		send(fmt.Sprintf(`{"choices":[],"usage":{"prompt_tokens":%d,"completion_tokens":3}}`, strings.Count(text, " ")+1))
	}
	send("[DONE]")
}
