// Tokens as coloured pieces of running text. Everything shown is text: Vue escapes it, and nothing is set as HTML.
// Tokens: [{text, colour, title, note, pickable}]. One tab stop; arrow keys move between tokens, Enter picks one.
export default {
  template: `
    <div class="token-text" role="group" :aria-label="label" tabindex="0"
         :aria-activedescendant="active === null ? null : tokenId(active)"
         @keydown="onKey" @mouseleave="hide" @blur="hide">
      <span v-for="(token, i) in all" :key="token.key" :id="tokenId(i)" class="token" :class="classes(token, i)"
            :style="token.colour ? {background: token.colour} : null"
            @mouseenter="show(i)" @click="pick(i)"><template v-for="(part, j) in parts(token.text)" :key="j"
            ><br v-if="part.line"><span v-if="part.mark" class="token-mark">{{ part.mark }}</span>{{ part.text }}</template></span>
      <div v-if="active !== null && all[active]" class="token-card" role="status" :style="place">
        <div class="token-card-title">{{ all[active].title }}</div>
        <div v-if="all[active].note" class="studio-small">{{ all[active].note }}</div>
        <button v-for="(choice, j) in all[active].choices || []" :key="j" class="token-choice" type="button"
                @mousedown.prevent @click.stop="choose(j)" tabindex="-1">
          <span class="token-bar" :style="{width: (100 * choice.share) + '%'}"></span>
          <span class="token-choice-text">{{ visible(choice.text) }}</span><span>{{ choice.value }}</span>
        </button>
      </div>
    </div>`,
  props: { tokens: Array, label: String },
  data: () => ({ active: null, place: {}, all: [], made: 0 }),
  created() { this.splice(0, 0, this.tokens); },
  watch: { tokens() { this.splice(0, this.all.length, this.tokens); } },
  methods: {
    // A change of `before` tokens; an element that was made since then has it already.
    change(before, start, removed, tokens) { if (this.all.length === before) this.splice(start, removed, tokens); },
    append(tokens) { this.splice(this.all.length, 0, tokens); },
    // Replaces some tokens; the others keep their elements, whatever their places become.
    splice(start, removed, tokens) {
      let colour = start > 0 ? this.all[start - 1].place : -1;
      const made = tokens.map((token) => ({ ...token, key: this.made++, place: (colour = (colour + 1) % 6) }));
      const next = this.all[start + removed], last = made[made.length - 1];
      if (next && last && last.place === next.place) last.place = (last.place + 3) % 6;
      this.all.splice(start, removed, ...made);
      if (this.active !== null && this.active >= start) this.hide();
    },
    tokenId(i) { return `${this.$attrs.id || "t"}-${this.all[i].key}`; },
    classes(token, i) { return [`token-${token.place}`, { "token-plain": token.plain, "token-special": token.special, "token-active": i === this.active, "token-pick": token.pickable }]; },
    visible(text) { return text.replace(/\n/g, "⏎").replace(/ /g, "·") || "∅"; },
    parts(text) {
      const pieces = text.split("\n");
      return pieces.map((piece, i) => ({ line: i > 0, mark: i < pieces.length - 1 ? "" : (text === "" ? "·" : ""), text: piece + (i < pieces.length - 1 ? "⏎" : "") }));
    },
    show(i) {
      this.active = i;
      this.$nextTick(() => {
        const word = document.getElementById(this.tokenId(i));
        if (!word) return;
        const box = word.getClientRects()[0] || word.getBoundingClientRect();
        const width = Math.min(300, window.innerWidth - 16);
        const left = Math.max(8, Math.min(box.left, window.innerWidth - width - 8));
        const below = box.bottom + 4 + 240 < window.innerHeight;
        this.place = below ? { left: left + "px", top: box.bottom + "px", width: width + "px" }
                           : { left: left + "px", bottom: window.innerHeight - box.top + "px", width: width + "px" };
      });
    },
    hide() { this.active = null; },
    pick(i) { if (this.all[i].pickable) this.$emit("pick", { index: i, choice: null }); else this.show(i); },
    choose(j) { const index = this.active; this.hide(); this.$emit("pick", { index, choice: j }); },
    onKey(event) {
      const last = this.all.length - 1, now = this.active === null ? -1 : this.active;
      const moves = { ArrowRight: Math.min(last, now + 1), ArrowLeft: Math.max(0, now - 1), Home: 0, End: last };
      if (event.key in moves && last >= 0) { event.preventDefault(); this.show(moves[event.key]); }
      else if (event.key === "Enter" && this.active !== null) { event.preventDefault(); this.pick(this.active); }
      else if (event.key === "Escape") this.hide();
      else if (/^[1-9]$/.test(event.key) && this.active !== null && (this.all[this.active].choices || [])[event.key - 1]) this.choose(event.key - 1);
    },
  },
};
