// The attention of a text, drawn by the script of Parakit's own page (reports/page/attention.js), which the head of the page
// has. Everything a hover needs is on the page, so that nothing is sent while a person points.
export default {
  template: '<div class="attention-view"></div>',
  props: { body: String },
  mounted() {
    this.themes = new MutationObserver(() => this.view?.repaint());
    this.themes.observe(document.body, { attributes: true, attributeFilter: ["class"] });
  },
  unmounted() {
    this.themes.disconnect();
    this.view?.close();
  },
  methods: {
    async show(page) {
      const started = performance.now();
      this.view?.close();
      this.$el.innerHTML = this.body; // markup of the package, without any text of a model
      this.view = await attentionView(this.$el, page);
      await new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
      this.$el.dataset.drawn = Math.round(performance.now() - started); // milliseconds, for tests and the curious
    },
    choose(layer, head) {
      this.view?.choose(layer, head);
    },
    clear() {
      this.view?.close();
      this.view = undefined;
      this.$el.replaceChildren();
    },
  },
};
