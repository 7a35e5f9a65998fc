-- The tables of this run as views of DuckDB. Paths are relative to the folder of this file:
--   cd runs/<name>/tables && duckdb -init views.sql
-- The images that hold a concept, the strongest first:
--   from images_with(7, min_area := 0.1) limit 50;
create or replace view images as select * from read_parquet(['images.parquet'], hive_partitioning = false);
create or replace view concepts as select * from read_parquet(['concepts.parquet'], hive_partitioning = false);
create or replace view concept_classes as select * from read_parquet(['concept_classes.parquet'], hive_partitioning = false);
create or replace view concept_labels as select * from read_parquet(['concept_labels.parquet'], hive_partitioning = false);
create or replace view image_concepts as select * from read_parquet(['image_concepts.parquet'], hive_partitioning = false);
create or replace view regions as select * from read_parquet(['regions.parquet'], hive_partitioning = false);
create or replace view objects as select * from read_parquet(['objects.parquet'], hive_partitioning = false);
create or replace view concept_pairs as select * from read_parquet(['concept_pairs.parquet'], hive_partitioning = false);
create or replace view k_metrics as select * from read_parquet(['k_metrics.parquet'], hive_partitioning = false);
create or replace view fidelity as select * from read_parquet(['fidelity.parquet'], hive_partitioning = false);
create or replace view rejected as select * from read_parquet(['rejected.parquet'], hive_partitioning = false);
create or replace view duplicates as select * from read_parquet(['duplicates.parquet'], hive_partitioning = false);
create or replace view suspects as select * from read_parquet(['suspects.parquet'], hive_partitioning = false);
create or replace macro images_with(concept, min_area := 0.0) as table
  select image_id, images.path, images.label, images.pred_label, images.pred_prob, held.max, held.mean, held.area, held.peak_x, held.peak_y, held.contribution
  from image_concepts held join images using (image_id)
  where held.concept_id = concept and held.area > 0 and held.area >= min_area
  order by held.max desc, image_id;
