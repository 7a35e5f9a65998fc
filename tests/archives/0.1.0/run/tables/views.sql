-- The tables of this run as views of DuckDB. Paths are relative to the folder of this file:
--   cd runs/<name>/tables && duckdb -init views.sql
-- The images that hold a concept, the strongest first:
--   from images_with(7, min_area := 0.1) limit 50;
create or replace view images as select * from read_parquet('images.parquet');
create or replace view concepts as select * from read_parquet('concepts.parquet');
create or replace view concept_classes as select * from read_parquet('concept_classes.parquet');
create or replace view concept_labels as select * from read_parquet('concept_labels.parquet');
create or replace view image_concepts as select * from read_parquet('image_concepts.parquet');
create or replace view regions as select * from read_parquet('regions.parquet');
create or replace view objects as select * from read_parquet('objects.parquet');
create or replace view concept_pairs as select * from read_parquet('concept_pairs.parquet');
create or replace view k_metrics as select * from read_parquet('k_metrics.parquet');
create or replace view fidelity as select * from read_parquet('fidelity.parquet');
create or replace view rejected as select * from read_parquet('rejected.parquet');
create or replace macro images_with(concept, min_area := 0.0) as table
  select image_id, path, label, pred_label, pred_prob, max, mean, area, peak_x, peak_y, contribution
  from image_concepts join images using (image_id)
  where concept_id = concept and area > 0 and area >= min_area
  order by max desc, image_id;
