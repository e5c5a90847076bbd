// A chart by ECharts that may be taken away in the moment in which it appears: NiceGUI's own then fails, since it is made
// a moment after it is put into the page.
import { echarts } from "nicegui-echart";
import { convertDynamicProperties } from "../../static/utils/dynamic_properties.js";

export default {
  template: "<div></div>",
  props: { options: Object },
  mounted() {
    this.chart = echarts.init(this.$el, null, { renderer: "canvas" });
    this.chart.on("click", (event) => this.$emit("componentClick", event));
    this.sizes = new ResizeObserver(() => this.chart?.resize());
    this.sizes.observe(this.$el);
    this.update_chart();
  },
  beforeUnmount() {
    this.sizes.disconnect();
    this.chart.dispose();
    this.chart = undefined;
  },
  methods: {
    update_chart() {
      if (!this.chart || !Object.keys(this.options).length) return;
      convertDynamicProperties(this.options, true);
      this.chart.setOption(this.options, { notMerge: true });
    },
  },
};
