package cli

// Linger says that there is more to bring to an end than the reading of files:
// the first SIGINT or SIGTERM cancels Ctx and no more, whatever is read.
func (c *Context) Linger() {
	c.mu.Lock()
	c.lingers = true
	c.mu.Unlock()
}
