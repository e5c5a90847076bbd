// The attention of a text, drawn by the script of Parakit's own page (reports/page/attention.js). Everything that a pointer
// needs is on the page, so that nothing is sent while a person points.
const loaded = {};
const load = (url) => (loaded[url] ??= new Promise((resolve, reject) => {
  const script = Object.assign(document.createElement("script"), { src: url, onload: resolve, onerror: reject });
  document.head.append(script);
}));

export default {
  template: '<div class="attention-view"></div>',
  props: { body: String, script: String },
  mounted() {
    this.themes = new MutationObserver(() => this.repaint());
    this.themes.observe(document.body, { attributes: true, attributeFilter: ["class"] });
    load(this.script);
  },
  activated() {
    this.repaint(); // the theme may have changed while another tab was open
  },
  unmounted() {
    this.themes.disconnect();
    this.view?.close();
  },
  methods: {
    repaint() {
      if (this.$el.isConnected) this.view?.repaint();
    },
    async show(page) {
      await load(this.script);
      const started = performance.now();
      this.view?.close();
      delete this.$el.dataset.drawn;
      this.$el.innerHTML = this.body; // markup of the package, without any text of a model
      this.view = await attentionView(this.$el, page);
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      this.$el.dataset.drawn = Math.round(performance.now() - started); // milliseconds
      if (this.wanted) this.view.choose(...this.wanted);
      this.wanted = undefined;
    },
    choose(layer, head) {
      if (this.$el.dataset.drawn) this.view.choose(layer, head);
      else this.wanted = [layer, head];
    },
    empty() {
      this.view?.close();
      this.view = undefined;
      delete this.$el.dataset.drawn;
      this.$el.replaceChildren();
    },
  },
};
